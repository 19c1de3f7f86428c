"""nest.training.checkpoints."""

import gc
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nest.errors import UserError
from nest.training import checkpoints as module
from nest.training import hosts
from nest.training.checkpoints import Checkpoints
from nest.training.checksum import agree_on_parameters
from nest.training.classifier_step import State


def state(step: int, size: int = 5000) -> State:
    key = jax.random.key(step)
    return State(
        step=jnp.int32(step),
        params={"levels": {0: jax.random.normal(key, (size,))}},
        opt_state=({"count": jnp.int32(step)},),
        ema=None,
    )


def assert_same(left: State, right: State) -> None:
    jax.tree.map(np.testing.assert_array_equal, left, right)


def saved(workdir: Path, *steps: int, keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(workdir, keep=keep)
    for step in steps:
        checkpoints.save(step, state(step), {"top1": step / 10})
    checkpoints.wait()
    return checkpoints


def array_files(workdir: Path, step: int) -> list[Path]:
    folder = workdir / "checkpoints" / str(step) / "state"
    return sorted(folder.glob("**/d/*"), key=lambda file: file.stat().st_size)


def test_round_trip_is_exact(tmp_path: Path):
    step, restored, metrics = saved(tmp_path, 3).restore_latest(state(0))
    assert (step, metrics) == (3, {"top1": 0.3})
    assert_same(restored, state(3))


def test_nothing_saved_restores_nothing(tmp_path: Path):
    assert Checkpoints(tmp_path).restore_latest(state(0)) is None


def test_the_newest_are_kept_and_the_best_besides(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3, 4):
        checkpoints.save(step, state(step), {})
        if step <= 2:
            checkpoints.save_best(step, state(step), {"top1": step / 10})
    checkpoints.wait()
    assert checkpoints.steps() == [3, 4]
    assert checkpoints.best_step() == 2
    assert checkpoints.best_metrics() == {"top1": 0.2}
    assert_same(checkpoints.restore("best", state(0))[1], state(2))
    assert_same(checkpoints.restore("3", state(0))[1], state(3))
    assert_same(checkpoints.restore("latest", state(0))[1], state(4))
    with pytest.raises(UserError, match=r"no checkpoint '1' .* 3, 4, best \(2\)"):
        checkpoints.restore("1", state(0))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    tmp_path: Path, capfd, damage
):
    checkpoints = saved(tmp_path, 1, 2)
    damage(array_files(tmp_path, 2)[-1])
    with pytest.raises(UserError, match=r"2 is damaged .* choose another"):
        checkpoints.restore("2", state(0))
    step, restored, _ = checkpoints.restore_latest(state(0))
    assert step == 1
    assert_same(restored, state(1))
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert str(tmp_path / "checkpoints" / "2") in lines[0] and "damaged" in lines[0]
    assert checkpoints.steps() == [1]
    assert (tmp_path / "damaged" / "checkpoints-2").is_dir()


def test_a_run_goes_on_past_a_damaged_checkpoint(tmp_path: Path):
    """The step of the damaged checkpoint is reached, and saved, again."""
    checkpoints = saved(tmp_path, 1, 2)
    flip(array_files(tmp_path, 2)[-1])
    checkpoints.restore_latest(state(0))
    checkpoints.save(2, state(2), {})
    checkpoints.wait()
    step, restored, _ = Checkpoints(tmp_path).restore_latest(state(0))
    assert step == 2
    assert_same(restored, state(2))


def test_all_damaged_is_an_error(tmp_path: Path):
    checkpoints = saved(tmp_path, 1, 2)
    for step in (1, 2):
        flip(array_files(tmp_path, step)[-1])
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged"):
        checkpoints.restore_latest(state(0))


def test_an_unfinished_checkpoint_does_not_count(tmp_path: Path):
    saved(tmp_path, 1).close()
    unfinished = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    (unfinished / "part").write_text("half")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps() == [1]
    assert checkpoints.restore_latest(state(0))[0] == 1


def test_a_missing_run_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match=r"no checkpoint in .* train there first"):
        Checkpoints(tmp_path, read_only=True).restore("latest", state(0))
    with pytest.raises(UserError, match=r"no checkpoint 'best' .* there are: none"):
        Checkpoints(tmp_path, read_only=True).restore("best", state(0))


class Pair:
    """Stands for the line to another process, whose answer `answer` makes of ours."""

    names = ("here, pid 1", "there, pid 2")

    def __init__(self, answer: Callable[[Any], Any], index: int = 0):
        self._answer, self._index = answer, index

    def gather(self, value: Any) -> list:
        both = [value, self._answer(value)]
        return both if self._index == 0 else both[::-1]


def test_a_best_checkpoint_that_another_cannot_read_is_set_aside(
    tmp_path: Path, capfd, monkeypatch
):
    checkpoints = saved(tmp_path)
    checkpoints.save_best(2, state(2), {"top1": 0.2})
    checkpoints.wait()
    pair = Pair(lambda ours: "torn" if ours is None else ours)
    monkeypatch.setattr(hosts, "_roll", pair)
    assert checkpoints.best_metrics() is None and checkpoints.best_step() is None
    assert (tmp_path / "damaged" / "best-2").is_dir()
    assert "is damaged (torn)" in capfd.readouterr().err


def test_all_compare_with_what_process_0_read_of_the_best(tmp_path: Path, monkeypatch):
    checkpoints = saved(tmp_path)
    checkpoints.save_best(2, state(2), {"top1": 0.2})
    checkpoints.wait()
    pair = Pair(lambda ours: {"top1": 0.7} if ours == {"top1": 0.2} else ours, index=1)
    monkeypatch.setattr(hosts, "_roll", pair)
    assert checkpoints.best_metrics() == {"top1": 0.7}


def test_a_folder_that_lags_behind_is_looked_at_again(tmp_path: Path, monkeypatch):
    lagging = [[[1], True], [[1], True]]
    pair = Pair(lambda ours: lagging.pop() if lagging else ours)
    checkpoints = saved(tmp_path, 1, 2)
    monkeypatch.setattr(hosts, "_roll", pair)
    assert checkpoints.restore_latest(state(0))[0] == 2
    assert not lagging


@pytest.mark.parametrize("best", [False, True])
def test_checkpoints_that_not_all_see_are_an_error(tmp_path: Path, monkeypatch, best):
    checkpoints = saved(tmp_path, 1, 2)
    checkpoints.save_best(2, state(2), {"top1": 0.2})
    checkpoints.wait()

    def answer(ours: Any) -> Any:
        if isinstance(ours, dict):
            return {name: steps[:-1] for name, steps in ours.items()}
        return [ours[0][:-1], ours[1]] if isinstance(ours, list) else ours

    monkeypatch.setattr(hosts, "_roll", Pair(answer))
    monkeypatch.setattr(module, "_FOLDER_LAG", 0)
    message = r"steps in best is \[\] on process 1 \(there, pid 2\), but \[2\] on"
    if not best:
        message = r"steps in checkpoints is \[1\] on process 1 .* \[1, 2\] on process 0"
    with pytest.raises(UserError, match=message):
        checkpoints.best_metrics() if best else checkpoints.restore_latest(state(0))


def test_parameters_that_differ_are_an_error(monkeypatch):
    params = {"a": jnp.float32(1), "b": (np.arange(3, dtype=np.float16),)}
    agree_on_parameters(params)  # alone
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(hosts, "_roll", Pair(lambda ours: dict(ours)))
    agree_on_parameters(params)
    bits = np.float32(1).view(np.uint32) + np.arange(3, dtype=np.float16).view(
        np.uint16
    ).sum(dtype=np.uint32)
    other = {"the checksum of the parameters": int(bits) + 1}
    monkeypatch.setattr(hosts, "_roll", Pair(lambda _: other))
    message = rf"parameters is {int(bits) + 1} on process 1 .* but {bits} on process 0"
    with pytest.raises(UserError, match=message):
        agree_on_parameters(params)


# Orbax's aborted writers complain when they are collected, here or in a later test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path):
    """A limit on the size of files stands in for a full disk: writes fail for real."""
    checkpoints = saved(tmp_path, 1)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"could not write .* \(intact: 1\)"):
            checkpoints.save(2, state(2), {})
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    step, restored, _ = Checkpoints(tmp_path).restore_latest(state(0))
    assert step == 1
    assert_same(restored, state(1))
    gc.collect()
