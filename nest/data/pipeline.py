"""From a source to batches on the host; every batch is a pure function of (seed, step).

A batch is a dict: "image" uint8 (b, S, S, 3), "label" int32 (b,) and, for evaluation,
"mask" bool (b,), where b is this host's share of the global batch.
"""

import contextlib
import dataclasses
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial

import grain
import jax
import numpy as np

from nest.data.images import Picture, center_crop, random_resized_crop
from nest.data.reader import Reader
from nest.errors import UserError

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Host:
    """Which rows of every global batch are this process's: a contiguous share."""

    index: int
    count: int

    def positions(self, step: int, global_batch: int) -> np.ndarray:
        """Positions of this host's rows in the endless sequence of examples."""
        rows = global_batch // self.count
        return step * global_batch + self.index * rows + np.arange(rows)


def this_host() -> Host:
    """Return the place of this process among all."""
    return Host(jax.process_index(), jax.process_count())


@lru_cache(maxsize=3)
def _epoch_order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, epoch)).permutation(num_examples)


def example_indices(positions: np.ndarray, num_examples: int, seed: int) -> np.ndarray:
    """Map positions in the endless shuffled sequence to indices of examples.

    Every epoch of `num_examples` positions is a permutation of its own; batches run
    across the border between two epochs, so no example is left out.
    """
    epochs, offsets = np.divmod(positions, num_examples)
    indices = np.empty_like(positions)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = _epoch_order(num_examples, seed, int(epoch))[offsets[here]]
    return indices


class Arrays:
    """A split decoded once into memory, at the model's size.

    Attributes:
      images: uint8 (n, size, size, 3).
      labels: int32 (n,).
      readable: bool (n,); what is not is black.
    """

    def __init__(self, reader: Reader, size: int, *, crop_fraction: float):
        count = reader.source.num_examples
        _check_memory(count * size * size * 3)
        self.images = np.zeros((count, size, size, 3), np.uint8)
        self.labels = np.zeros(count, np.int32)
        self.readable = np.zeros(count, bool)
        crop = partial(center_crop, size=size, fraction=crop_fraction)

        def load(i: int) -> None:
            example = reader.read(i, crop)
            if example is not None:
                self.images[i], self.labels[i] = example
                self.readable[i] = True

        with ThreadPoolExecutor() as pool:
            for _ in pool.map(load, range(count)):
                pass
        if not self.readable.any():
            raise UserError("not a single image of this split is readable")

    def gather(self, indices: np.ndarray) -> Batch:
        """Return the images and labels at `indices`."""
        return {"image": self.images[indices], "label": self.labels[indices]}

    def next_readable(self) -> np.ndarray:
        """Map every index to itself or, where unreadable, to the next that is not."""
        readable = np.flatnonzero(self.readable)
        at = np.searchsorted(readable, np.arange(len(self.readable)))
        return readable[at % len(readable)]


def _check_memory(size: int) -> None:
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > 0.7 * there:
        raise UserError(
            f"the split needs {size / 2**30:.0f} GiB in memory, this machine has "
            f"{there / 2**30:.0f}; set --config.data.in_memory=False"
        )


@dataclasses.dataclass(frozen=True)
class TrainExamples(grain.sources.RandomAccessDataSource):
    """The endless sequence of cropped training examples on this host, up to its end.

    Item k is row k % b of batch k // b. Its crop is seeded by its place in the global
    sequence, so neither the number of threads nor that of hosts changes it.
    """

    reader: Reader
    size: int
    seed: int
    host: Host
    global_batch: int
    num_steps: int
    crop_area: tuple[float, float]
    crop_aspect: tuple[float, float]

    def __len__(self) -> int:
        return self.num_steps * (self.global_batch // self.host.count)

    def __getitem__(self, k: int) -> Batch:
        step, row = divmod(int(k), self.global_batch // self.host.count)
        position = self.host.positions(step, self.global_batch)[row : row + 1]
        count = self.reader.source.num_examples
        index = example_indices(position, count, self.seed)[0]

        def crop(picture: Picture) -> np.ndarray:
            rng = np.random.default_rng((self.seed, 1, int(position[0])))
            return random_resized_crop(
                picture, self.size, rng, area=self.crop_area, aspect=self.crop_aspect
            )

        image, label = self.reader.read_or_next(index, crop)
        return {"image": image, "label": np.int32(label)}


def train_batches(
    reader: Reader,
    *,
    size: int,
    batch_size: int,
    start_step: int,
    num_steps: int,
    seed: int,
    host: Host,
    in_memory: bool,
    eval_crop: float,
    crop_area: tuple[float, float],
    crop_aspect: tuple[float, float],
    threads: int,
) -> Iterator[Batch]:
    """Return this host's batches for the steps start_step .. num_steps - 1.

    Args:
      reader: of the training split.
      size: side of the images in pixels.
      batch_size: global; the hosts share it equally.
      in_memory: decode the split once and gather by index, cropped as for evaluation;
        False decodes each example when it is needed and takes a random resized crop.
      eval_crop: see `center_crop`; used in memory.
      crop_area, crop_aspect: see `random_resized_crop`; used out of memory.
      threads: decode so many batches at a time; used out of memory.
    """
    if in_memory:
        arrays = Arrays(reader, size, crop_fraction=eval_crop)
        readable = arrays.next_readable()

        def gather(step: int) -> Batch:
            positions = host.positions(step, batch_size)
            indices = example_indices(positions, len(readable), seed)
            return arrays.gather(readable[indices])

        return map(gather, range(start_step, num_steps))
    examples = TrainExamples(
        reader, size, seed, host, batch_size, num_steps, crop_area, crop_aspect
    )
    batches = grain.MapDataset.source(examples).batch(batch_size // host.count)
    # Grain's default would hold 500 batches in memory.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    stream = batches[start_step:].to_iter_dataset(options)
    return _until_closed(stream)


def _until_closed(stream: grain.IterDataset) -> Iterator[Batch]:
    """Iterate and stop the threads at the end, also when the consumer stops early."""
    with contextlib.closing(iter(stream)) as batches:
        yield from batches


class EvalBatches:
    """One pass over a split in order, every example exactly once on all hosts together.

    The last batch is filled up with copies of the first example, masked out, and so are
    images that are left out because they cannot be read. Iterating again starts another
    pass.

    Args:
      threads: decode so many images at a time, two batches ahead; used out of memory.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        size: int,
        batch_size: int,
        host: Host,
        in_memory: bool,
        eval_crop: float,
        threads: int,
    ):
        self._reader = reader
        self._batch_size = batch_size
        self._host = host
        self._threads = threads
        self._size = size
        self._crop = partial(center_crop, size=size, fraction=eval_crop)
        self._arrays = (
            Arrays(reader, size, crop_fraction=eval_crop) if in_memory else None
        )

    def __len__(self) -> int:
        return -(-self._reader.source.num_examples // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        if self._arrays is not None:
            return map(self._gather, range(len(self)))
        return self._decode()

    def _rows(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of this host's rows and whether they count."""
        positions = self._host.positions(step, self._batch_size)
        mask = positions < self._reader.source.num_examples
        return np.where(mask, positions, 0), mask

    def _gather(self, step: int) -> Batch:
        indices, mask = self._rows(step)
        mask = mask & self._arrays.readable[indices]
        return self._arrays.gather(indices) | {"mask": mask}

    def _decode(self) -> Iterator[Batch]:
        nothing = np.zeros((self._size, self._size, 3), np.uint8), 0
        with ThreadPoolExecutor(self._threads) as pool:

            def start(step: int) -> list[Future]:
                indices, _ = self._rows(step)
                return [pool.submit(self._reader.read, i, self._crop) for i in indices]

            ahead = deque(start(step) for step in range(min(2, len(self))))
            try:
                for step in range(len(self)):
                    examples = [future.result() for future in ahead.popleft()]
                    if step + 2 < len(self):
                        ahead.append(start(step + 2))
                    there = np.array([example is not None for example in examples])
                    images, labels = zip(*(x or nothing for x in examples), strict=True)
                    yield {
                        "image": np.stack(images),
                        "label": np.array(labels, np.int32),
                        "mask": self._rows(step)[1] & there,
                    }
            finally:
                pool.shutdown(cancel_futures=True)
