"""Running commands as processes, some at once, each in its folder, resumably.

The folder's `run.json` tells every start: its command, when, how long, how it ended. A
command that ended well is not run again; any other is, and goes on by itself where the
folder's checkpoints allow it.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nest.errors import UserError
from nest.training.interruption import Interruption

ROOT = Path(__file__).resolve().parent.parent.parent
POLL_SECONDS = 0.2
MEMORY_SHARE = "XLA_PYTHON_CLIENT_MEM_FRACTION"  # of a GPU, for one process
RECORD_SECONDS = 5.0  # what a kill can take off the time recorded


@dataclasses.dataclass(frozen=True)
class Run:
    """Commands that run one after the other.

    Attributes:
      name: for messages.
      folder: with run.json and log.txt; where the commands write.
      commands: arguments of python, from the project's folder.
      workdir: give each command the folder as --workdir.
    """

    name: str
    folder: Path
    commands: tuple[tuple[str, ...], ...]
    workdir: bool = True

    def starts(self) -> list[dict[str, Any]]:
        """Return the entries of run.json, oldest first."""
        file = self.folder / "run.json"
        try:
            return json.loads(file.read_text())
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise UserError(f"{file} cannot be read ({error}); remove it") from error

    def pending(self) -> list[tuple[str, ...]]:
        """Return the commands that did not end well yet.

        Raises:
          UserError: the folder holds a run of other commands.
        """
        starts = self.starts()
        for start in starts:
            if tuple(start["command"]) not in self.commands:
                raise UserError(
                    f"{self.folder} holds a run of another command "
                    f"({' '.join(start['command'])}); remove it or give another folder"
                )
        done = [tuple(start["command"]) for start in starts if start["status"] == 0]
        return [command for command in self.commands if command not in done]

    def seconds(self) -> float:
        """Return the wall time of all starts."""
        return sum(start["seconds"] for start in self.starts())


def run_all(runs: Sequence[Run], *, jobs: int) -> None:
    """Run what is not finished, at most `jobs` at once, and say how each one ended.

    Raises:
      UserError: some failed; the others ran.
      SystemExit: a signal stopped it; each process was told and saved its state.
    """
    waiting = []
    for run in runs:
        if run.pending():
            waiting.append(run)
        else:
            print(
                f"{run.name} is finished in {run.folder}; remove it to run it again",
                flush=True,
            )
    total = len(waiting)
    active: list[_Process] = []
    with Interruption() as interruption, _hangup_is_termination():
        try:
            failed = _work_off(waiting, active, jobs, interruption)
        finally:
            _stop(active)
        if interruption.received is not None:
            received = interruption.received
            print(f"stopped by {received.name}: run the same command to go on")
            raise SystemExit(128 + received)
    if failed:
        raise UserError(
            f"{len(failed)} of {total} failed ({', '.join(failed)}); see log.txt in "
            f"their folders, and run the same command to go on"
        )


def _work_off(
    waiting: list[Run],
    active: list["_Process"],
    jobs: int,
    interruption: Interruption,
) -> list[str]:
    """Run all until a signal comes; return the names of those that failed.

    Args:
      waiting, active: both are changed in place: what is active at the end, or at an
        error, still runs.
    """
    total, failed = len(waiting), []
    while (waiting or active) and interruption.received is None:
        while waiting and len(active) < jobs:
            run = waiting.pop(0)
            print(f"{run.name} starts, {len(waiting)} of {total} wait", flush=True)
            active.append(_Process(run, jobs))
        time.sleep(POLL_SECONDS)
        for process in list(active):
            status = process.poll()
            if status is None:
                continue
            active.remove(process)
            run = process.run
            if status == 0 and run.pending():
                active.append(_Process(run, jobs))
            elif status == 0:
                print(f"{run.name} ended after {run.seconds():.0f} s", flush=True)
            else:
                failed.append(run.name)
                print(f"{run.name} failed: {process.reason()}", flush=True)
    return failed


def _stop(processes: Sequence["_Process"]) -> None:
    """Let all save their states at the same time, and wait for every one."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


@contextlib.contextmanager
def _hangup_is_termination() -> Iterator[None]:
    """A terminal that closes stops everything as SIGTERM does; under nohup nothing."""
    old = signal.getsignal(signal.SIGHUP)
    if old != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, old)


def environment(jobs: int) -> dict[str, str]:
    """Return the environment of one of so many processes at the same time.

    On a GPU the first process alone would take three quarters of the memory, so each
    gets its part, unless the user's environment says how much.
    """
    shares = {} if jobs == 1 else {MEMORY_SHARE: f"{0.9 / jobs:.3f}"}
    return shares | dict(os.environ)


class _Process:
    """The first command of a run that did not end well yet, started."""

    def __init__(self, run: Run, jobs: int):
        self.run = run
        command = run.pending()[0]
        run.folder.mkdir(parents=True, exist_ok=True)
        self._log = run.folder / "log.txt"
        self._earlier = run.starts()
        self._entry = {
            "command": list(command),
            "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": 0.0,
            "status": None,
        }
        self._began = time.monotonic()
        self._record()
        where = [f"--workdir={run.folder.resolve()}"] if run.workdir else []
        with self._log.open("a") as log:
            # In a session of its own, a terminal's Ctrl-C comes through `stop` only.
            self._process = subprocess.Popen(
                [sys.executable, *command, *where],
                cwd=ROOT,
                env=environment(jobs),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        status = self._process.poll()
        seconds = time.monotonic() - self._began
        if status is not None or seconds - self._entry["seconds"] >= RECORD_SECONDS:
            self._entry |= {"seconds": round(seconds, 1), "status": status}
            self._record()
        return status

    def terminate(self) -> None:
        """Tell it to save its state and end."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait for its end, and record it."""
        self._process.wait()
        self.poll()

    def reason(self) -> str:
        """Return the last line that it printed."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self._process.returncode}"

    def _record(self) -> None:
        file = self.run.folder / "run.json"
        part = file.with_suffix(".part")
        part.write_text(json.dumps([*self._earlier, self._entry], indent=2) + "\n")
        part.replace(file)
