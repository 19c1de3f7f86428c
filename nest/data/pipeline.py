"""From a source to batches on the host; every batch is a pure function of (seed, step).

A batch is a dict: "image" uint8 (b, S, S, 3), "label" int32 (b,) and, for evaluation,
"mask" bool (b,), where b is this host's share of the global batch.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grain
import jax
import numpy as np
from PIL import Image

from nest.data.images import center_crop, decode, random_resized_crop
from nest.data.sources import Source
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


@functools.lru_cache(maxsize=3)
def _epoch_order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(num_examples)


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
    """A split decoded once into memory, at the model's size."""

    def __init__(self, source: Source, size: int, *, crop_fraction: float):
        def load(i: int) -> tuple[np.ndarray, int]:
            return _evaluation_image(source, i, size, crop_fraction)

        with ThreadPoolExecutor() as pool:
            examples = list(pool.map(load, range(source.num_examples)))
        self.images = np.stack([image for image, _ in examples])
        self.labels = np.array([label for _, label in examples], np.int32)

    def gather(self, indices: np.ndarray) -> Batch:
        """Return the images and labels at `indices`."""
        return {"image": self.images[indices], "label": self.labels[indices]}


@dataclasses.dataclass(frozen=True)
class TrainExamples(grain.sources.RandomAccessDataSource):
    """The endless sequence of cropped training examples on this host, up to its end.

    Item k is row k % b of batch k // b. Its crop is seeded by its place in the global
    sequence, so neither the number of threads nor that of hosts changes it.
    """

    source: Source
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
        index = example_indices(position, self.source.num_examples, self.seed)[0]
        rng = np.random.default_rng((self.seed, int(position[0])))
        image, label = self.source.read(index)
        image = random_resized_crop(
            _decode(image, index),
            self.size,
            rng,
            area=self.crop_area,
            aspect=self.crop_aspect,
        )
        return {"image": image, "label": np.int32(label)}


def train_batches(
    source: Source,
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
      source: the training split.
      size: side of the images in pixels.
      batch_size: global; the hosts share it equally.
      in_memory: decode the split once and gather by index, cropped as for evaluation;
        False decodes each example when it is needed and takes a random resized crop.
      eval_crop: see `center_crop`; used in memory.
      crop_area, crop_aspect: see `random_resized_crop`; used out of memory.
      threads: decode so many batches at a time; used out of memory.
    """
    if in_memory:
        arrays = Arrays(source, size, crop_fraction=eval_crop)

        def gather(step: int) -> Batch:
            positions = host.positions(step, batch_size)
            return arrays.gather(example_indices(positions, source.num_examples, seed))

        return map(gather, range(start_step, num_steps))
    examples = TrainExamples(
        source, size, seed, host, batch_size, num_steps, crop_area, crop_aspect
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

    The last batch is filled up with copies of the first example, masked out. Iterating
    again starts another pass.
    """

    def __init__(
        self,
        source: Source,
        *,
        size: int,
        batch_size: int,
        host: Host,
        in_memory: bool,
        eval_crop: float,
    ):
        self.source = source
        self.size = size
        self.batch_size = batch_size
        self.host = host
        self.eval_crop = eval_crop
        self.arrays = (
            Arrays(source, size, crop_fraction=eval_crop) if in_memory else None
        )

    def __len__(self) -> int:
        return -(-self.source.num_examples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor() as pool:
            for step in range(len(self)):
                positions = self.host.positions(step, self.batch_size)
                mask = positions < self.source.num_examples
                indices = np.where(mask, positions, 0)
                yield self._load(indices, pool) | {"mask": mask}

    def _load(self, indices: np.ndarray, pool: ThreadPoolExecutor) -> Batch:
        if self.arrays is not None:
            return self.arrays.gather(indices)

        def load(i: int) -> tuple[np.ndarray, int]:
            return _evaluation_image(self.source, i, self.size, self.eval_crop)

        examples = list(pool.map(load, indices))
        return {
            "image": np.stack([image for image, _ in examples]),
            "label": np.array([label for _, label in examples], np.int32),
        }


def _evaluation_image(
    source: Source, i: int, size: int, crop_fraction: float
) -> tuple[np.ndarray, int]:
    image, label = source.read(i)
    picture = _decode(image, i)
    if crop_fraction == 1.0 and picture.size == (size, size):
        return np.asarray(picture), label
    return center_crop(picture, size, fraction=crop_fraction), label


def _decode(image: bytes | np.ndarray, i: int) -> Image.Image:
    try:
        return decode(image)
    except OSError as error:
        raise UserError(
            f"example {i} is not a readable image ({error}); prepare the dataset again"
        ) from error
