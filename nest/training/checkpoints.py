"""Checkpoints of a training state (Orbax): atomic, asynchronous, checked.

A workdir holds `checkpoints/STEP`, the newest few, and `best/STEP`, the one with the
best evaluation. Each carries its metrics and a checksum, since the array files alone do
not reveal a flipped bit.
"""

import contextlib
import gc
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from nest.errors import UserError
from nest.training import hosts
from nest.training.checksum import checksum
from nest.weights.arrays import join

Metrics = dict[str, float]

_FOLDER_LAG = 65  # seconds; NFS clients look again after 60 at the latest


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
      workdir: made when the first checkpoint is written.
      keep: how many of the newest stay; the best is kept besides.
      read_only: nothing is written, deleted or moved.

    Raises:
      UserError: from every method that writes, when the disk does not take it.
    """

    def __init__(self, workdir: Path, *, keep: int = 1, read_only: bool = False):
        self.workdir = workdir
        self._read_only = read_only
        self._latest = _manager(workdir / "checkpoints", keep, read_only)
        self._best = _manager(workdir / "best", 1, read_only)

    def steps(self) -> list[int]:
        """Return the steps of the newest checkpoints, ascending."""
        return sorted(self._latest.all_steps())

    def best_step(self) -> int | None:
        """Return the step of the best checkpoint."""
        return self._best.latest_step()

    def best_metrics(self) -> Metrics | None:
        """Return the evaluation of the best checkpoint; a damaged one is set aside.

        All processes get what process 0 read, and have to call.

        Raises:
          UserError: the processes do not see the same one.
        """
        (step,) = self._seen_by_all(self._best)[-1:] or (None,)
        metrics = reason = None
        if step is not None:
            try:
                metrics = _read_meta(self._best, step)["metrics"]
            except _Damaged as error:
                reason = str(error)
        reasons = [reason for reason in hosts.gather(reason) if reason]
        if reasons:  # On any host: all have to compare with the same one.
            self._set_aside(self._best, step, reasons[0])
            return None
        return hosts.gather(metrics)[0]

    def save(self, step: int, state: Any, metrics: Metrics) -> None:
        """Start writing a checkpoint; `wait` or the next `save` reports its errors.

        Args:
          metrics: the newest evaluation, kept with the checkpoint; may be empty.
        """
        self._save(self._latest, step, state, metrics)

    def save_best(self, step: int, state: Any, metrics: Metrics) -> None:
        """Replace the best checkpoint, unless it is of the same step already."""
        if step != self.best_step():
            self._save(self._best, step, state, metrics)

    def wait(self) -> None:
        """Block until everything is on disk."""
        for manager in (self._latest, self._best):
            with self._disk_errors():
                manager.wait_until_finished()

    def close(self) -> None:
        """Release the writer threads."""
        for manager in (self._latest, self._best):
            with self._disk_errors():
                manager.close()

    def restore_latest(self, like: Any = None) -> tuple[int, Any, Metrics] | None:
        """Restore the newest undamaged checkpoint: its step, state and metrics.

        Args:
          like: a state of the same structure, shapes, types and shardings; None takes
            what was saved, as nested dicts with strings for keys, on one device.

        Returns:
          None when there is no checkpoint at all. A damaged one is named on standard
          error, moved to `damaged/` and the one before it taken.

        Raises:
          UserError: all are damaged, or the processes do not see the same ones.
        """
        damaged = {}
        for step in reversed(self._seen_by_all(self._latest)):
            try:
                found = step, *_read(self._latest, step, like)
                reason = None
            except _Damaged as error:
                reason = str(error)
            reasons = [reason for reason in hosts.gather(reason) if reason]
            if reasons:  # On any host: all have to take the same one.
                damaged[step] = reasons[0]
                continue
            for step, reason in damaged.items():
                self._set_aside(self._latest, step, reason)
            return found
        if damaged:
            reasons = "; ".join(f"{step}: {error}" for step, error in damaged.items())
            best = self.best_step()
            raise UserError(
                f"every checkpoint in {self.workdir / 'checkpoints'} is damaged "
                f"({reasons}); start again in a new --workdir"
                + (
                    f"; {self.workdir / 'best' / str(best)} is left to evaluate"
                    if best
                    else ""
                )
            )
        return None

    def restore(self, which: str, like: Any = None) -> tuple[int, Any, Metrics]:
        """Restore one checkpoint: its step, state and metrics.

        Args:
          which: "best", "latest" or a step.
          like: as in `restore_latest`.

        Raises:
          UserError: it does not exist or is damaged.
        """
        if which == "latest":
            found = self.restore_latest(like)
            if found is None:
                raise UserError(
                    f"no checkpoint in {self.workdir}; train there first, or give "
                    f"another --workdir"
                )
            return found
        manager, step = self._find(which)
        try:
            return step, *_read(manager, step, like)
        except _Damaged as error:
            raise UserError(
                f"checkpoint {manager.directory / str(step)} is damaged ({error}); "
                f"choose another with --checkpoint"
            ) from error

    def restore_parameters(self, which: str) -> tuple[int, dict]:
        """Restore the variables to evaluate: their average where there is one.

        Args:
          which: "best", "latest" or a step.

        Returns:
          The step and a nested dict of arrays, whatever model they are of: parameters,
          and the statistics of batch normalization if there are any.
        """
        step, state, _ = self.restore(which)
        if state["ema"] is not None:
            return step, state["ema"]
        return step, join(state["params"], state.get("statistics"))

    def _seen_by_all(self, manager: ocp.CheckpointManager) -> list[int]:
        """Return the steps that are there, ascending; all processes have to call.

        An older one in the place of one that only some see would cost its training.
        """
        deadline = time.monotonic() + _FOLDER_LAG
        while True:
            steps = sorted(manager.all_steps())
            everywhere = hosts.gather([steps, time.monotonic() < deadline])
            waiting = all(early for _, early in everywhere)
            if all(other == steps for other, _ in everywhere) or not waiting:
                break
            time.sleep(0.5)
            manager.reload()
        hosts.agree({f"the list of steps in {manager.directory.name}": steps})
        return steps

    def _find(self, which: str) -> tuple[ocp.CheckpointManager, int]:
        best, steps = self.best_step(), self.steps()
        if which == "best" and best is not None:
            return self._best, best
        if which.isdigit() and int(which) in steps:
            return self._latest, int(which)
        if which.isdigit() and int(which) == best:
            return self._best, best
        there = [str(step) for step in steps]
        if best is not None:
            there.append(f"best ({best})")
        raise UserError(
            f"no checkpoint {which!r} in {self.workdir}; there are: "
            f"{', '.join(there) or 'none'}"
        )

    def _save(
        self, manager: ocp.CheckpointManager, step: int, state: Any, metrics: Metrics
    ) -> None:
        meta = {"checksum": int(checksum(state)), "metrics": metrics}
        with self._disk_errors():
            manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
                ),
                force=True,
            )

    def _set_aside(
        self, manager: ocp.CheckpointManager, step: int, reason: str
    ) -> None:
        """Name a damaged checkpoint and make room for its step to be saved again.

        Process 0 does; the others wait for it.
        """
        if jax.process_index() == 0:
            self._move(Path(manager.directory) / str(step), step, reason)
        hosts.gather(None)
        if not self._read_only:
            manager.reload()

    def _move(self, folder: Path, step: int, reason: str) -> None:
        moved = ", the one before it is used"
        if not self._read_only:
            target = self.workdir / "damaged" / f"{folder.parent.name}-{step}"
            target.parent.mkdir(exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            folder.rename(target)
            moved = f", moved to {target}{moved}"
        print(f"checkpoint {folder} is damaged ({reason}){moved}", file=sys.stderr)

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        reason = None
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            reason = _reason(error)
        if reason is not None:
            _collect_silently()
            kept = ", ".join(map(str, self.steps())) or "none"
            raise UserError(
                f"could not write a checkpoint to {self.workdir}: {reason}; mend that "
                f"and run the same command again (intact: {kept})"
            )


class _Damaged(Exception):
    """A checkpoint that cannot be read back as it was written."""


def _manager(directory: Path, keep: int, read_only: bool) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=None if read_only else keep,
        create=not read_only,
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
    )
    return ocp.CheckpointManager(directory.absolute(), options=options)


def _read_meta(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    args = ocp.args.Composite(meta=ocp.args.JsonRestore())
    with _damage():
        return manager.restore(step, args=args).meta


def _read(manager: ocp.CheckpointManager, step: int, like: Any) -> tuple[Any, Metrics]:
    if like is None:
        abstract = _saved_structure(manager, step)
    else:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    args = ocp.args.Composite(
        state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore()
    )
    with _damage():
        restored = manager.restore(step, args=args)
    if int(checksum(restored.state)) != restored.meta["checksum"]:
        raise _Damaged("the checksum of its arrays does not match")
    return restored.state, restored.meta["metrics"]


def _saved_structure(manager: ocp.CheckpointManager, step: int) -> Any:
    folder = Path(manager.directory) / str(step) / "state"
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with _damage(), ocp.StandardCheckpointer() as checkpointer:
        saved = checkpointer.metadata(folder).item_metadata.tree
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), saved
        )


def _reason(error: BaseException) -> str:
    """The operating system's own words, where TensorStore's message holds them."""
    text = str(error)
    found = re.search(r": ([^:\[]+) \[os_error_code", text)
    return found[1] if found else " ".join((text or repr(error)).split())[:200]


class _NotOrbax(logging.Filter):
    """Drops Orbax's own log: its errors are also raised, and told in one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname


logging.getLogger("absl").addFilter(_NotOrbax())
logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # Orbax's writers, once more.


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Turn what Orbax raises for unreadable files into `_Damaged`."""
    reason = None
    try:
        yield
    except FileNotFoundError as error:
        reason = _reason(error)
    except (OSError, MemoryError, jax.errors.JaxRuntimeError):
        raise  # Trouble of the machine, not of the checkpoint.
    except Exception as error:  # Orbax raises a bare Exception for unreadable arrays.
        reason = _reason(error.__cause__ or error)
    if reason is not None:
        _collect_silently()
        raise _Damaged(reason)


def _collect_silently() -> None:
    """Collect the coroutines of a failed call now: they complain when they go."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    gc.collect()
    sys.unraisablehook = hook
