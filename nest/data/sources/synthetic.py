"""Made-up images, to try and to time things without any data."""

import re

import numpy as np

from nest.data.sources.source import Source
from nest.errors import UserError


def open_synthetic(dataset: str, split: str) -> Source:
    """Open a split of noise around a colour of each class.

    Args:
      dataset: "CLASSESxEXAMPLESxSIZE", for example "10x50000x32".
      split: "train" or "test"; the latter has other noise and a tenth as many examples.
    """
    found = re.fullmatch(r"(\d+)x(\d+)x(\d+)", dataset)
    if not found or "0" in found.groups():
        raise UserError(
            f"config.data.dataset = {dataset!r}; a synthetic one is called "
            f"CLASSESxEXAMPLESxSIZE, for example 10x50000x32"
        )
    if split not in ("train", "test"):
        raise UserError(f"synthetic has the splits 'train' and 'test', not {split!r}")
    classes, examples, size = map(int, found.groups())
    kind = ("train", "test").index(split)
    colours = np.random.default_rng(0).integers(64, 192, (classes, 3))

    def read(i: int) -> tuple[np.ndarray, int]:
        rng = np.random.default_rng((kind, i))
        noise = rng.integers(-64, 64, (size, size, 3))
        return (colours[i % classes] + noise).astype(np.uint8), i % classes

    return Source(
        read=read,
        num_examples=max(1, examples // 10) if kind else examples,
        class_names=tuple(str(k) for k in range(classes)),
        describe=lambda i: f"synthetic image {i}",
    )
