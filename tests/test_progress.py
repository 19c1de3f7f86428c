"""nest.training.progress."""

import time

import pytest

from nest.training.progress import Progress


def test_speed_and_share_of_waiting(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def slow_batches():
        for k in range(4):
            clock[0] += 0.25  # a quarter of each second
            yield k

    progress = Progress(num_steps=4, batch_size=10)
    for _ in progress.timed(slow_batches()):
        clock[0] += 0.75
    window = progress.window()
    assert window == {"images_per_second": 10.0, "input_wait_share": 0.25}


def test_waiting_is_warned_of_once_and_not_at_the_start(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    progress = Progress(num_steps=4, batch_size=10)
    clock[0] += 6
    progress.window()
    progress.warn_of_waiting(0.9, "start")
    clock[0] += 4
    progress.window()
    progress.warn_of_waiting(0.9, "too short to tell")
    clock[0] += 5
    progress.window()
    progress.warn_of_waiting(0.1, "little")
    progress.warn_of_waiting(0.11, "raise config.data.threads")
    progress.warn_of_waiting(0.5, "again")
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == (
        "warning: 11% of the time is spent waiting for input; raise "
        "config.data.threads\n"
    )


@pytest.mark.parametrize(("speed", "eta"), [(10.0, "0:30"), (0.05, "1:40:00")])
def test_the_line_has_step_loss_speed_and_eta(capsys, speed: float, eta: str):
    Progress(num_steps=40, batch_size=10).show(10, 1.23456, speed)
    expected = f"step 10/40  loss 1.2346  {speed:.1f} images/s  ETA {eta}\n"
    assert capsys.readouterr().out == expected
