"""Several processes as one run: found, agreed, started together and ended together.

JAX's distributed runtime connects the devices; the roll call says who is missing, who
differs and who is gone. A process alone uses neither.
"""

import contextlib
import dataclasses
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
from jax._src.clusters import ClusterEnv  # What jax.distributed.initialize asks.

from nest.errors import UserError, explain
from nest.training.environment import code_version
from nest.training.rollcall import RollCall, listen

_roll: RollCall | None = None


class _Disagreement(UserError):
    """A UserError that every process raises at the same time."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where this process stands.

    Attributes:
      coordinator: HOST:PORT of process 0.
      index, count: which of how many processes this is.
      local_device_ids: the devices that it takes; None takes all that it sees.
    """

    coordinator: str
    index: int
    count: int
    local_device_ids: tuple[int, ...] | None


@contextlib.contextmanager
def joined(
    facts: dict[str, Any],
    *,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    arrival_timeout: float,
    peer_timeout: float,
) -> Iterator[None]:
    """Make one run of all processes; JAX must not have been used before.

    Inside, only process 0 prints to standard output. When one process fails, dies or is
    silent, all end with a line that names it.

    Args:
      facts: name -> JSON value; has to be the same everywhere.
      coordinator, num_processes, process_id: HOST:PORT of process 0, how many there are
        and which one this is; all None asks the TPU's metadata, SLURM or MPI, and where
        there is none of them the process is alone.
      arrival_timeout: seconds within which all have to come.
      peer_timeout: seconds of silence after which a process counts as lost. One that
        is killed is noticed at once.

    Raises:
      UserError: the flags do not fit together, a port is in use, not all come, or the
        processes differ.
    """
    global _roll
    place = find_place(coordinator, num_processes, process_id, arrival_timeout)
    if place is None:
        yield
        return
    host, _, digits = place.coordinator.rpartition(":")
    port = int(digits)
    if place.index == 0:
        listen(port).close()
        print(
            f"process 0 of {place.count} waits for the others at {place.coordinator}, "
            f"at most {arrival_timeout:g} s",
            flush=True,
        )
    _roll = RollCall(
        (host, port + 1 if port < 65535 else port - 1),  # SLURM's may be the last one.
        index=place.index,
        count=place.count,
        arrival=arrival_timeout,
        timeout=peer_timeout,
    )
    with ending_together(), contextlib.ExitStack() as stack:
        agree(facts | code_version())
        _start_jax(place, arrival_timeout, peer_timeout)
        agree({"the number of its devices": jax.local_device_count()})
        if place.index > 0:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        stopped = None
        try:
            yield
        except SystemExit as error:  # All stop at the same step.
            stopped = error
        gather("done")
    _roll.leave()
    _roll = None
    if stopped is not None:
        raise stopped


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Let an error in this process end all; inside of whatever waits for the others.

    `joined` does it, too, but what is written in the background is to be given up, not
    waited for: a loop enters this after everything that it closes at its end.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if _roll is None:
            raise
        _end(error)


def gather(value: Any) -> list:
    """Return the values (JSON) of all processes, in their order; all must call."""
    return [value] if _roll is None else _roll.gather(value)


def agree(facts: dict[str, Any]) -> None:
    """Raise UserError on every process unless all have the same; all must call."""
    rows = gather(facts)
    for index, row in enumerate(rows):
        for name in sorted(rows[0].keys() | row.keys()):
            if row.get(name) != rows[0].get(name):
                raise _Disagreement(
                    f"{name} is {row.get(name)} on {_name(index)}, but "
                    f"{rows[0].get(name)} on {_name(0)}; start the same on all hosts"
                )


def compiled_together(step: Callable[..., Any]) -> Callable[..., Any]:
    """Let nobody begin a jitted function before all have compiled it.

    It has to be called with the same shapes always. The first to begin would otherwise
    wait for the others inside of a collective, which gives up: gloo after 30 s.
    """
    if _roll is None:
        return step
    compiled = None

    def call(*arguments: Any) -> Any:
        nonlocal compiled
        if compiled is None:
            compiled = step.lower(*arguments).compile()
            gather("compiled")
        return compiled(*arguments)

    return call


def share_folder(path: Path, token: str | None) -> None:
    """Raise UserError on every process unless all see what process 0 wrote.

    Args:
      token: on process 0, what it has written to the file `path`/lock.
    """
    (token, *_) = gather(token)
    for _ in range(20 if _roll is not None else 0):  # Network folders may lag behind.
        with contextlib.suppress(OSError):
            if (path / "lock").read_text() == token:
                break
        time.sleep(0.5)
    else:
        token = None
    for index, seen in enumerate(gather(token is not None or _roll is None)):
        if not seen:
            raise _Disagreement(
                f"{_name(index)} does not see the {path} of {_name(0)}; --workdir has "
                f"to be one folder for all, on a network file system"
            )


def find_place(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    arrival_timeout: float,
) -> Place | None:
    """Return the place of this process; None where it is alone. See `joined`."""
    given = (coordinator, num_processes, process_id)
    if num_processes == 1:
        return None
    if given == (None, None, None):
        return _detect(arrival_timeout)
    if None in given:
        raise UserError(
            "give --coordinator, --num_processes and --process_id together, or none"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65535:
        raise UserError(
            f"--coordinator={coordinator} is not HOST:PORT with a port below 65535"
        )
    if process_id >= num_processes:
        raise UserError(
            f"--process_id={process_id} of --num_processes={num_processes}; they count "
            f"from 0 to {num_processes - 1}"
        )
    return Place(coordinator, process_id, num_processes, None)


def _detect(arrival_timeout: float) -> Place | None:
    try:
        coordinator, count, index, local_device_ids = (
            ClusterEnv.auto_detect_unset_distributed_params(
                None, None, None, None, None, int(arrival_timeout)
            )
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"cannot find out which process this is ({error}); give --coordinator, "
            f"--num_processes and --process_id, or --num_processes=1"
        ) from error
    if count in (None, 1):
        return None
    if _sees_only_its_own():
        local_device_ids = None
    return Place(
        coordinator, index, count, local_device_ids and tuple(local_device_ids)
    )


def _sees_only_its_own() -> bool:
    """Tell whether a SLURM task is to take all devices it sees, not one of them.

    JAX takes the one with the task's number on its node. That is wrong where the node
    has one task, and where the task is bound to a device, which then has the number 0.
    """
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    alone = bool(tasks) and all(x.split("(")[0] == "1" for x in tasks.split(","))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return alone or (visible is not None and "," not in visible)


def _start_jax(place: Place, arrival_timeout: float, peer_timeout: float) -> None:
    # It would take SIGTERM for itself; see nest.training.interruption.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        place.coordinator,
        place.count,
        place.index,
        local_device_ids=place.local_device_ids,
        cluster_detection_method="deactivate",
        initialization_timeout=int(arrival_timeout),
        # The roll call is to be first.
        heartbeat_timeout_seconds=int(2 * peer_timeout + 30),
        shutdown_timeout_seconds=int(peer_timeout),
    )


def _end(error: BaseException) -> NoReturn:
    program = Path(sys.argv[0]).name
    if isinstance(error, _Disagreement):
        _roll.leave()
        time.sleep(0.5 if _roll.index == 0 else 0)  # JAX's service is in process 0.
        _say(f"{program}: {error}")
        os._exit(1)
    explained = explain(error)
    if isinstance(error, BrokenPipeError):
        explained = "nobody reads its output any more", 141
    if explained is None:
        # Often it is the other's end that broke this process's collective: then the
        # roll call ends it meanwhile, with the name.
        time.sleep(3)
        explained = f"{type(error).__name__}: {str(error).split(chr(10))[0]}", 1
        _roll.fail(explained[0])
        _say("".join(traceback.format_exception(error)).rstrip())
    else:
        _roll.fail(explained[0])
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    _say(f"{program}: {explained[0]}")
    os._exit(explained[1])


def _say(lines: str) -> None:
    with contextlib.suppress(OSError):  # Nobody may be there to read it.
        print(lines, file=sys.stderr, flush=True)


def _name(index: int) -> str:
    return f"process {index} ({_roll.names[index]})"
