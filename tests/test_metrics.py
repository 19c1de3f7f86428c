"""nest.training.metrics and nest.training.progress."""

import json
import sys
from itertools import islice
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from nest.training.metrics import MetricsLog
from nest.training.progress import Progress


def lines(workdir: Path) -> list[dict]:
    text = (workdir / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def board(workdir: Path) -> list[tuple[int, str, float]]:
    """Read the TensorBoard files: records of length, checksum, event, checksum."""
    found = []
    for file in sorted((workdir / "tensorboard").iterdir()):
        content = file.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
    return found


@pytest.fixture
def no_tensorflow(monkeypatch):
    """Importing TensorFlow fails, as where it is not installed."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)


def test_scalars_reach_both_files(tmp_path: Path, no_tensorflow):
    log = MetricsLog(tmp_path, start_step=0)
    log.write(5, {"train/loss": 0.25})
    log.close()
    assert lines(tmp_path) == [{"step": 5, "train/loss": 0.25}]
    assert board(tmp_path) == [(5, "train/loss", 0.25)]


def test_a_resumed_run_drops_what_lies_after_its_checkpoint(tmp_path, no_tensorflow):
    log = MetricsLog(tmp_path, start_step=0)
    for step in (2, 4, 6):
        log.write(step, {"train/loss": step})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "train/lo')  # as a kill leaves it
    log = MetricsLog(tmp_path, start_step=4)
    log.write(6, {"train/loss": 60})
    log.close()
    assert [(row["step"], row["train/loss"]) for row in lines(tmp_path)] == [
        (2, 2),
        (4, 4),
        (6, 60),
    ]


def test_other_processes_write_nothing(tmp_path: Path):
    log = MetricsLog(tmp_path, start_step=0, active=False)
    log.write(1, {"train/loss": 1.0})
    log.close()
    assert not list(tmp_path.iterdir())


def test_progress_counts_images_and_the_wait_for_input(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def slow():
        while True:
            now[0] += 1.0
            yield None

    progress = Progress(num_steps=10, batch_size=6)
    for _ in islice(progress.timed(slow()), 4):
        now[0] += 2.0
    assert progress.window() == {
        "images_per_second": pytest.approx(4 * 6 / 12),
        "input_wait_share": pytest.approx(1 / 3),
    }
    progress.show(4, 1.5, 2.0)
    line = capsys.readouterr().out
    assert line == "step 4/10  loss 1.5000  2.0 images/s  ETA 0:18\n"
