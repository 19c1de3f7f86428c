"""scripts/launch_tpu_pod.sh and slurm.sbatch, beside stubs that record calls."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

POD = ROOT / "scripts" / "launch_tpu_pod.sh"
SLURM = ROOT / "scripts" / "slurm.sbatch"
NAMED = ("--name=pod", "--zone=here")
TRAIN = ("--", "--config=configs/digits_nest.py", "--config.model.layers=(1, 1)")

# Notes its arguments, one call a line, and does on this machine what is for a worker.
GCLOUD = """
printf '%s|' "$@" | tr '\\n' ' ' >>"$CALLS"; echo >>"$CALLS"
case " $* " in
  *" describe "*) echo ACTIVE ;;
  *" create "*) exit "${CREATE_STATUS:-0}" ;;
  *"tail -n +1"*) [ -z "$FOLLOW_STATUS" ] || exit "$FOLLOW_STATUS" ;;
  *"rm -rf nest;"*) [ -z "$INSTALL_STATUS" ] || exit "$INSTALL_STATUS" ;;
esac
cd "$HOME"
for argument; do
  case $argument in --command=*) exec bash -c "${argument#--command=}" ;; esac
done
"""


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch) -> Path:
    """A folder first in PATH, a home, and the file that calls are recorded in."""
    for name in ("bin", "home/nest", "home/nest-venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    write(tmp_path / "bin" / "gcloud", GCLOUD)
    return tmp_path


def write(file: Path, script: str) -> None:
    file.write_text(f"#!/usr/bin/env bash\n{script}\n")
    file.chmod(0o755)


def launch(*flags: str) -> subprocess.CompletedProcess:
    return subprocess.run([POD, *flags], capture_output=True, text=True, timeout=60)


def calls(stubs: Path) -> list[list[str]]:
    file = stubs / "calls"
    if not file.exists():
        return []
    return [line.strip("| ").split("|") for line in file.read_text().splitlines()]


def test_a_dry_run_prints_every_command_and_runs_none(stubs: Path):
    create = ("--type=v4-32", "--queued", "--spot", "--nfs=10.0.0.2:/runs")
    completed = launch(*NAMED, *create, "--dry-run", *TRAIN)
    assert completed.returncode == 0, completed.stderr
    assert calls(stubs) == []
    lines = completed.stdout.splitlines()
    assert all(line.startswith(("gcloud compute tpus ", "git -C")) for line in lines)
    kinds = [" ".join(line.split()[3:5]) for line in lines if line.startswith("gcloud")]
    assert kinds == [
        "queued-resources create",
        "queued-resources describe",
        "tpu-vm scp",
        "tpu-vm ssh",
        "tpu-vm ssh",
        "tpu-vm ssh",
        "tpu-vm ssh",
        "tpu-vm ssh",
        "queued-resources delete",
    ]
    assert "--accelerator-type=v4-32" in lines[0] and "--spot" in lines[0]


def worker(stubs: Path, program: str) -> None:
    """Let `program` stand for Python on the worker; nothing else uses the TPU."""
    write(stubs / "home" / "nest-venv" / "bin" / "python", program)
    write(stubs / "bin" / "sudo", '[ "$1" = fuser ] && exit "${IN_USE:-1}"; exit 0')


def test_it_runs_on_all_workers_and_follows_to_the_end(stubs: Path):
    worker(stubs, 'printf "%s\\n" "$PWD" "$@"')
    completed = launch(*NAMED, "--steps=run,follow,delete", *TRAIN)
    assert completed.returncode == 0, completed.stderr
    # What the worker's program prints is what is followed; its arguments arrive whole.
    assert completed.stdout.splitlines() == [
        str(stubs / "home" / "nest"),
        "-u",
        "train.py",
        *TRAIN[1:],
    ]
    workers = [[x for x in call if x.startswith("--worker")] for call in calls(stubs)]
    assert workers == [["--worker=all"], ["--worker=0"], ["--worker=all"], []]
    assert calls(stubs)[-1][2:5] == ["tpu-vm", "delete", "pod"]


def test_a_failed_run_is_told_and_the_pod_deleted(stubs: Path):
    worker(stubs, "echo no such data >&2; exit 3")
    completed = launch(*NAMED, "--steps=run,follow,delete", *TRAIN)
    assert completed.returncode == 3
    assert "exit status 3" in completed.stderr and "no such data" in completed.stderr
    assert calls(stubs)[-1][2:5] == ["tpu-vm", "delete", "pod"]


def test_nothing_runs_on_a_pod_that_was_not_created(stubs: Path, monkeypatch):
    monkeypatch.setenv("CREATE_STATUS", "5")
    completed = launch(*NAMED, "--type=v4-8", "--steps=create,run", *TRAIN)
    assert completed.returncode == 5
    assert [call[3] for call in calls(stubs)] == ["create"]


def test_stop_signals_the_program_which_may_end_in_peace(stubs: Path):
    worker(
        stubs,
        "trap 'echo saved; exit 143' TERM; echo started; while :; do sleep 0.1; done",
    )
    assert launch(*NAMED, "--steps=run", *TRAIN).returncode == 0
    log, status = stubs / "home" / "nest.log", stubs / "home" / "nest.status"
    wait_for(lambda: "started" in log.read_text())
    assert launch(*NAMED, "--steps=stop").returncode == 0
    assert status.read_text() == "143\n"
    assert log.read_text().splitlines()[-1] == "saved"


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen within 20 s")


def test_a_tpu_in_use_is_not_taken_away(stubs: Path, monkeypatch):
    worker(stubs, "echo started")
    monkeypatch.setenv("IN_USE", "0")
    completed = launch(*NAMED, "--steps=run", *TRAIN)
    assert completed.returncode == 3
    assert "a program is using the TPU" in completed.stderr
    assert not (stubs / "home" / "nest.log").exists()


def deletions(stubs: Path) -> list[list[str]]:
    return [call for call in calls(stubs) if "delete" in call]


@pytest.mark.parametrize("queued", [(), ("--queued",)])
def test_a_pod_that_was_there_before_is_not_deleted(stubs: Path, monkeypatch, queued):
    """The default command, given twice, must not end what the first is doing."""
    monkeypatch.setenv("CREATE_STATUS", "5")
    completed = launch(*NAMED, "--type=v4-8", *queued, *TRAIN)
    assert completed.returncode == 5
    assert len(calls(stubs)) == 1 and deletions(stubs) == []
    (line,) = completed.stderr.splitlines()
    delete = " ".join([*queued, "--steps=delete"])
    assert "pod is left as it is" in line and f" {delete} ends its costs" in line


@pytest.mark.parametrize("steps", ["run,follow,delete", "install,run,follow,delete"])
def test_a_pod_in_use_is_neither_changed_nor_deleted(
    stubs: Path, monkeypatch, steps: str
):
    worker(stubs, "echo started")
    monkeypatch.setenv("IN_USE", "0")
    monkeypatch.setenv("TMPDIR", str(stubs / "tmp"))
    (stubs / "tmp").mkdir()
    completed = launch(*NAMED, f"--steps={steps}", *TRAIN)
    assert completed.returncode == 3
    assert "a program is using the TPU" in completed.stderr
    assert "not deleted" in completed.stderr and deletions(stubs) == []
    assert (stubs / "home" / "nest").exists()
    assert list((stubs / "tmp").iterdir()) == []


@pytest.mark.parametrize(("status", "count"), [("255", 0), ("1", 1)])
def test_a_broken_connection_deletes_no_running_program(
    stubs: Path, monkeypatch, status: str, count: int
):
    worker(stubs, "echo started")
    monkeypatch.setenv("FOLLOW_STATUS", status)
    completed = launch(*NAMED, "--steps=run,follow,delete", *TRAIN)
    assert completed.returncode == int(status)
    assert len(deletions(stubs)) == count


@pytest.mark.parametrize(("steps", "count"), [("install", 0), ("create,install", 1)])
def test_a_failed_installation_deletes_only_what_this_call_created(
    stubs: Path, monkeypatch, steps: str, count: int
):
    monkeypatch.setenv("INSTALL_STATUS", "1")
    completed = launch(*NAMED, "--type=v4-8", f"--steps={steps},delete", *TRAIN)
    assert completed.returncode == 1
    assert len(deletions(stubs)) == count


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--zone=z", *TRAIN), "--name=''; use small letters"),
        (("--name=a", *TRAIN), "give --zone"),
        ((*NAMED, *TRAIN), "give --type"),
        ((*NAMED, "--type=v4-8"), "give the flags of train.py after --"),
        ((*NAMED, "--steps=run,fly", *TRAIN), "no step 'fly'; there are: create"),
        ((*NAMED, "--config=x"), "unknown option --config=x"),
        ((*NAMED, "--type=v4-8", "--nfs=here", *TRAIN), "--nfs=here is not HOST:/PATH"),
    ],
)
def test_a_wrong_flag_is_one_line(stubs: Path, flags, message: str):
    completed = launch(*flags)
    assert completed.returncode == 2 and completed.stdout == ""
    assert completed.stderr.startswith("launch_tpu_pod.sh: ")
    assert completed.stderr.count("\n") == 1 and message in completed.stderr
    assert calls(stubs) == []


def submit(stubs: Path, *flags: str, status: int = 0, **environment: str):
    """Run the batch script as SLURM does, on the first node of a job."""
    record = 'printf "%s|" "${0##*/}" "$@" >>"$CALLS"; echo >>"$CALLS"'
    settings = 'printf "%s|" "$XLA_PYTHON_CLIENT_MEM_FRACTION" "$no_proxy"'
    write(
        stubs / "bin" / "srun", f"{record}\n({settings}; echo) >>$CALLS; exit {status}"
    )
    names = '[ "$1" = show ] && printf "a1\\na2\\n"; exit 0'
    write(stubs / "bin" / "scontrol", f"{record}\n{names}")
    variables = dict(
        SLURM_JOB_ID="7",
        SLURM_NTASKS_PER_NODE="8",
        SLURM_GPUS_ON_NODE="8",
        SLURM_CPUS_PER_TASK="6",
    )
    kept = {k: v for k, v in os.environ.items() if k.lower() != "no_proxy"}
    return subprocess.run(
        ["bash", SLURM, *flags],
        cwd=ROOT,
        env=kept | variables | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_slurm_job_starts_every_task(stubs: Path):
    completed = submit(stubs, *TRAIN[1:], PYTHON="py")
    assert completed.returncode == 0, completed.stderr
    srun = calls(stubs)[1]
    assert srun[0] == "srun"
    assert srun[1:] == [
        "--kill-on-bad-exit=0",
        "--cpus-per-task=6",
        "py",
        "-u",
        "train.py",
        *TRAIN[1:],
    ]
    assert calls(stubs)[2] == ["0.9", "a1,a2"]


@pytest.mark.parametrize(
    ("status", "queued"), [(0, False), (1, False), (138, True), (143, False)]
)
def test_a_job_at_its_time_limit_is_queued_again(stubs: Path, status: int, queued):
    completed = submit(stubs, *TRAIN[1:], status=status)
    assert completed.returncode == status
    assert (["scontrol", "requeue", "7"] in calls(stubs)) == queued


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        (TRAIN[1:], dict(SLURM_JOB_ID=""), "submit it: sbatch scripts/slurm.sbatch"),
        ((), {}, "give the flags of train.py"),
        (TRAIN[1:], dict(SLURM_NTASKS_PER_NODE="4"), "4 tasks on 8 GPUs a node"),
    ],
)
def test_a_wrong_submission_is_one_line(stubs: Path, flags, environment, message: str):
    completed = submit(stubs, *flags, **environment)
    assert completed.returncode == 2
    assert completed.stderr.startswith("slurm.sbatch: ")
    assert completed.stderr.count("\n") == 1 and message in completed.stderr
    assert calls(stubs) == []


@pytest.mark.parametrize("script", [POD, SLURM])
def test_shellcheck_finds_nothing(script: Path):
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    completed = subprocess.run([program, script], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout
