"""nest.tables.runs: with small programs in the place of trainings."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from nest.errors import UserError
from nest.tables import runs as runs_module
from nest.tables.runs import MEMORY_SHARE, Run, environment, run_all

# Programs see --workdir=FOLDER as their last argument.
BEGIN = "import sys, time, pathlib; path = pathlib.Path(sys.argv[-1][10:]); "


def program(code: str) -> tuple[str, ...]:
    return ("-c", BEGIN + code)


COUNT = program("f = (path / 'count').open('a'); f.write('x')")


def test_a_finished_run_is_not_run_again(tmp_path: Path, capsys):
    runs = [Run(name, tmp_path / name, (COUNT,)) for name in "ab"]
    run_all(runs, jobs=2)
    assert "a starts, 1 of 2 wait" in capsys.readouterr().out
    run_all(runs, jobs=2)
    told = capsys.readouterr().out.splitlines()
    finished = "{} is finished in {}; remove it to run it again"
    assert told == [finished.format(name, tmp_path / name) for name in "ab"]
    assert (tmp_path / "a" / "count").read_text() == "x"


def test_a_killed_run_goes_on(tmp_path: Path):
    run = Run("a", tmp_path, (COUNT,))
    killed = dict(command=list(COUNT), began="", seconds=5.0, status=None)
    (tmp_path / "run.json").write_text(json.dumps([killed]))
    run_all([run], jobs=1)
    assert (tmp_path / "count").read_text() == "x"
    assert len(run.starts()) == 2 and run.seconds() >= 5.0


def test_commands_follow_each_other(tmp_path: Path):
    second = program("assert (path / 'count').exists(); (path / 'second').touch()")
    run = Run("a", tmp_path, (COUNT, second))
    run_all([run], jobs=1)
    assert (tmp_path / "second").exists() and not run.pending()


def test_no_more_than_asked_for_at_once(tmp_path: Path):
    code = program("a = time.time(); time.sleep(0.3); print(a, time.time())")
    runs = [Run(name, tmp_path / name, (code,)) for name in "abcd"]
    run_all(runs, jobs=2)
    spans = [
        tuple(map(float, (run.folder / "log.txt").read_text().split())) for run in runs
    ]
    together = [sum(a <= begin < b for a, b in spans) for begin, _ in spans]
    assert max(together) == 2


def test_a_failure_is_told_and_does_not_stop_the_others(tmp_path: Path, capsys):
    bad = Run("bad", tmp_path / "bad", (program("sys.exit('too wide')"),))
    good = Run("good", tmp_path / "good", (COUNT,))
    with pytest.raises(UserError, match=r"1 of 2 failed \(bad\); see log.txt"):
        run_all([bad, good], jobs=1)
    assert "bad failed: too wide" in capsys.readouterr().out
    assert not good.pending() and bad.pending()


def test_another_command_is_refused(tmp_path: Path):
    run_all([Run("a", tmp_path, (COUNT,))], jobs=1)
    with pytest.raises(UserError, match="holds a run of another command"):
        Run("a", tmp_path, (program("pass"),)).pending()


STOP = """
import sys
from pathlib import Path
from nest.tables.runs import Run, run_all
code = (
    "import signal, sys, time, pathlib\\n"
    "path = pathlib.Path(sys.argv[-1][10:])\\n"
    "def save(*_):\\n    (path / 'saved').touch()\\n    sys.exit(143)\\n"
    "signal.signal(signal.SIGTERM, save)\\n"
    "(path / 'ready').touch()\\n"
    "time.sleep(60)"
)
run_all([Run(n, Path(sys.argv[1]) / n, (("-c", code),)) for n in "abc"], jobs=2)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_every_process_save(tmp_path: Path, number: int):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", STOP, str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not all((tmp_path / name / "ready").exists() for name in "ab"):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM: run the same command to go on" in told
    assert all((tmp_path / name / "saved").exists() for name in "ab")
    assert not (tmp_path / "c").exists()


SLOW_END = program(
    "import signal; "
    "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.exit(143))); "
    "(path / 'ready').touch(); time.sleep(60)"
)


def test_an_error_leaves_no_process_and_ends_all_at_once(tmp_path: Path, monkeypatch):
    runs = [Run(name, tmp_path / name, (SLOW_END,)) for name in "abc"]
    told = []

    def fail_when_all_are_ready(seconds: float) -> None:
        time.sleep(seconds)
        if all((run.folder / "ready").exists() for run in runs):
            told.append(time.monotonic())
            raise OSError("disk full")

    class Clock:
        sleep = staticmethod(fail_when_all_are_ready)
        monotonic = staticmethod(time.monotonic)

    monkeypatch.setattr(runs_module, "time", Clock)
    with pytest.raises(OSError, match="disk full"):
        run_all(runs, jobs=3)
    # Each takes a second to end: one after the other they would take three.
    assert 1 <= time.monotonic() - told[0] < 2.5
    assert [run.starts()[-1]["status"] for run in runs] == [143] * 3


def test_processes_at_the_same_time_share_the_memory(monkeypatch):
    monkeypatch.delenv(MEMORY_SHARE, raising=False)
    assert MEMORY_SHARE not in environment(1)
    assert environment(3)[MEMORY_SHARE] == "0.300"
    monkeypatch.setenv(MEMORY_SHARE, ".5")
    assert environment(3)[MEMORY_SHARE] == ".5"
