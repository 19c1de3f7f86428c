"""Where metrics go: metrics.jsonl and TensorBoard files in the workdir."""

import json
from pathlib import Path
from typing import Protocol

import jax
import numpy as np


class _Board(Protocol):
    def write_scalars(self, step: int, scalars: dict[str, float]) -> None: ...
    def write_images(self, step: int, images: dict[str, np.ndarray]) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class MetricsLog:
    """Appends scalars to `metrics.jsonl` and to TensorBoard files under `tensorboard/`.

    Args:
      workdir: an existing folder.
      start_step: the run goes on from here; later lines of a killed run are dropped.
      active: False on all processes but the first writes nothing.
    """

    def __init__(self, workdir: Path, *, start_step: int, active: bool = True):
        self._file = self._board = None
        if not active:
            return
        path = workdir / "metrics.jsonl"
        _drop_after(path, start_step)
        self._file = path.open("a", buffering=1)
        self._board = _open_board(workdir / "tensorboard", start_step)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Log scalars, named like "train/loss", after `step` finished steps."""
        if self._file is None:
            return
        scalars = {name: float(value) for name, value in scalars.items()}
        self._file.write(json.dumps({"step": step} | scalars) + "\n")
        self._board.write_scalars(step, scalars)
        self._board.flush()

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """Show a picture, uint8 (H, W, 3), in TensorBoard after `step` steps."""
        if self._board is not None:
            self._board.write_images(step, {name: image[None]})
            self._board.flush()

    def close(self) -> None:
        """Flush and close the files."""
        if self._file is not None:
            self._file.close()
            self._board.close()


def _drop_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError):
            continue  # A line that a kill cut off.
    part = path.with_suffix(".part")
    part.write_text("".join(f"{line}\n" for line in kept))
    part.replace(path)


class _TensorboardX:
    """tensorboardX behind the calls of a CLU metric writer used here."""

    def __init__(self, logdir: Path, start_step: int):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(logdir), purge_step=start_step + 1)

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def write_images(self, step: int, images: dict[str, np.ndarray]) -> None:
        for name, batch in images.items():
            self._writer.add_images(name, batch, step, dataformats="NHWC")

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _open_board(logdir: Path, start_step: int) -> _Board:
    try:
        from clu.metric_writers import SummaryWriter  # Imports TensorFlow.
    except ImportError:
        return _TensorboardX(logdir, start_step)
    return SummaryWriter(str(logdir))


def device_memory() -> dict[str, float]:
    """Return the peak memory of the fullest local device in GiB, where it is known."""
    peaks = [
        (device.memory_stats() or {}).get("peak_bytes_in_use")
        for device in jax.local_devices()
    ]
    known = [peak for peak in peaks if peak is not None]
    return {"device_memory_gib": max(known) / 2**30} if known else {}
