#!/usr/bin/env bash
# Train on a TPU pod: create it, install, run on all workers, follow the log, delete it.
set -euo pipefail

usage() {
  cat <<'END'
scripts/launch_tpu_pod.sh --name=NAME --zone=ZONE --type=TYPE [OPTIONS] -- TRAIN_FLAGS...

  --name=NAME        of the TPU VM
  --zone=ZONE        for example us-central2-b
  --type=TYPE        for example v4-32; needed to create
  --steps=LIST       default create,install,run,follow,delete, in this order; also stop,
                     which saves and ends the run
  --project=PROJECT  default: gcloud's
  --runtime=VERSION  of the TPU software, default tpu-ubuntu2204-base
  --spot             cheaper, may be taken away
  --queued           wait for capacity as a queued resource
  --nfs=HOST:/PATH   mount this on /mnt/nest everywhere, for --workdir=/mnt/nest/...
  --program=FILE     default train.py
  --dry-run          print every command, run none

The workdir has to be one folder for all workers. The working tree's last commit is what
is installed. The pod is deleted at the end, also of a failed run. It is left as it is by
Ctrl-C, when it could not be created, and when it was there before and nothing could be
started on it: another run may be using it.
END
}

fail() {
  echo "launch_tpu_pod.sh: $1" >&2
  exit 2
}

name='' zone='' type='' project='' runtime=tpu-ubuntu2204-base nfs='' program=train.py
steps=create,install,run,follow,delete
spot=() queued=false dry=false created=false keep=false

while (($#)); do
  case $1 in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --runtime=*) runtime=${1#*=} ;;
    --nfs=*) nfs=${1#*=} ;;
    --program=*) program=${1#*=} ;;
    --steps=*) steps=${1#*=} ;;
    --spot) spot=(--spot) ;;
    --queued) queued=true ;;
    --dry-run) dry=true ;;
    --help | -h) usage && exit 0 ;;
    --) shift && break ;;
    *) fail "unknown option $1; flags of $program come after --; see --help" ;;
  esac
  shift
done

IFS=, read -ra wanted <<<"$steps"
has() { [[ ",$steps," == *",$1,"* ]]; }
for step in "${wanted[@]}"; do
  case $step in
    create | install | run | follow | stop | delete) ;;
    *) fail "no step '$step'; there are: create, install, run, follow, stop, delete" ;;
  esac
done
[[ $name =~ ^[a-z][a-z0-9-]*$ ]] || fail "--name='$name'; use small letters, digits and -"
[[ $zone ]] || fail "give --zone, for example --zone=us-central2-b"
! has create || [[ $type ]] || fail "give --type, for example --type=v4-32"
! has run || [[ " $*" == *" --config="* ]] || fail "give the flags of $program after --: -- --config=..."
[[ -z $nfs || $nfs == *:/* ]] || fail "--nfs=$nfs is not HOST:/PATH"
$dry || command -v gcloud >/dev/null || fail "gcloud is not installed; see cloud.google.com/sdk"

where=(--zone="$zone")
[[ -z $project ]] || where+=(--project="$project")
tpu=(gcloud compute tpus)

call() {
  if $dry; then
    printf '%q ' "$@" && echo
  else
    "$@"
  fi
}

# On one worker only, a pod's program waits for the others: whatever matters goes to all.
on() {
  call "${tpu[@]}" tpu-vm ssh "$name" "${where[@]}" --worker="$1" --command="$2"
}

create() {
  if $queued; then
    call "${tpu[@]}" queued-resources create "$name" --node-id="$name" "${where[@]}" \
      --accelerator-type="$type" --runtime-version="$runtime" "${spot[@]}" || return
    created=true
    local state=''
    until [[ $state == ACTIVE ]]; do
      state=$(call "${tpu[@]}" queued-resources describe "$name" "${where[@]}" \
        --format='value(state.state)') || return
      if $dry; then
        echo "$state" && break
      fi
      case $state in
        ACTIVE) ;;
        FAILED | SUSPENDED | SUSPENDING)
          echo "launch_tpu_pod.sh: the queued resource $name is $state" >&2
          return 1
          ;;
        *) echo "waiting for $name: $state" && sleep 30 ;;
      esac
    done
  else
    call "${tpu[@]}" tpu-vm create "$name" "${where[@]}" --accelerator-type="$type" \
      --version="$runtime" "${spot[@]}" || return
    created=true
  fi
}

# Ends a worker's command while a program uses the TPU; without fuser it cannot know.
# shellcheck disable=SC2016
unless_in_use='sudo sh -c "command -v fuser" >/dev/null || sudo apt-get -qq install -y psmisc || exit
if sudo fuser -s /tmp/libtpu_lockfile 2>/dev/null; then
  echo "$(hostname): a program is using the TPU; end it with --steps=stop" >&2; exit 3
fi'

install() {
  local root archive mount
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  scratch=$(mktemp -d)
  archive=$scratch/nest.tar.gz
  [[ -z $(git -C "$root" status --porcelain --untracked-files=no) ]] ||
    echo "launch_tpu_pod.sh: what is not committed is not installed" >&2
  call git -C "$root" archive --prefix=nest/ --output="$archive" HEAD || return
  call "${tpu[@]}" tpu-vm scp "$archive" "$name":nest.tar.gz "${where[@]}" --worker=all ||
    return
  on all "$unless_in_use
set -e; rm -rf nest; tar -xzf nest.tar.gz
command -v python3.11 >/dev/null || { sudo apt-get -qq update; sudo apt-get -qq install -y software-properties-common; sudo add-apt-repository -y ppa:deadsnakes/ppa; sudo apt-get -qq install -y python3.11 python3.11-venv; }
[ -d nest-venv ] || python3.11 -m venv nest-venv
nest-venv/bin/pip install -q -r nest/requirements.txt 'jax[tpu]'" || return
  [[ $nfs ]] || return 0
  printf -v mount %q "$nfs"
  on all "set -e; command -v mount.nfs >/dev/null || sudo apt-get -qq install -y nfs-common
sudo mkdir -p /mnt/nest; mountpoint -q /mnt/nest || sudo mount -t nfs $mount /mnt/nest"
}

run() {
  local flags
  printf -v flags ' %q' "$@"
  # A lock file that nobody holds is left over from a killed program: libtpu would say
  # that the TPU is in use. The trap lets the shell outlive a signal to write the status.
  on all "$unless_in_use
sudo rm -f /tmp/libtpu_lockfile; rm -f nest.status; cd nest
nohup setsid sh -c 'trap : TERM INT; \"\$@\"; echo \$? >\$HOME/nest.status' sh \$HOME/nest-venv/bin/python -u $program$flags >\$HOME/nest.log 2>&1 </dev/null &
echo \$! >\$HOME/nest.pid"
}

follow() {
  # Process 0 is on worker 0 and prints the progress, the others errors only.
  on 0 "tail -n +1 --pid=\$(cat nest.pid) -F nest.log" || return
  on all "while kill -0 \$(cat nest.pid) 2>/dev/null; do sleep 1; done
status=\$(cat nest.status); [ \$status = 0 ] || { echo \"\$(hostname): exit status \$status\" >&2; tail -n 5 nest.log >&2; exit \$status; }"
}

stop() {
  on all "kill -TERM -- -\$(cat nest.pid); while kill -0 \$(cat nest.pid) 2>/dev/null; do sleep 1; done"
}

delete() {
  if $queued; then
    call "${tpu[@]}" queued-resources delete "$name" "${where[@]}" --force --quiet
  else
    call "${tpu[@]}" tpu-vm delete "$name" "${where[@]}" --quiet
  fi
}

again=''
! $queued || again='--queued '
left="$name is left as it is: ${again}--steps=follow,delete goes on, ${again}--steps=delete ends its costs"
scratch=''
trap '[[ -z $scratch ]] || rm -rf "$scratch"' EXIT
trap 'echo "launch_tpu_pod.sh: $left" >&2; exit 130' INT

status=0
for step in create install run follow stop; do
  if ! has "$step" || ((status)); then
    continue
  fi
  case $step in
    create) create || status=$? ;;
    install) install || status=$? ;;
    run) run "$@" || status=$? ;;
    follow) follow || status=$? ;;
    stop) stop || status=$? ;;
  esac
  case $step in
    create | install | run)
      # What this call did not make, or what is in use, may be somebody's run.
      if ((status == 3)) || { ((status)) && ! $created; }; then
        keep=true
      fi
      ;;
    follow)
      # ssh's own status: the connection broke, and the program goes on.
      ((status != 255)) || keep=true
      ;;
  esac
done
if has delete && $keep; then
  echo "launch_tpu_pod.sh: not deleted, since a program may be running on it; $left" >&2
elif has delete; then
  delete || status=$((status ? status : $?))
fi
exit "$status"
