"""scikit-learn's 1,797 scanned 8x8 digits, which install with it."""

import functools

import numpy as np

from nest.data.sources.source import Source
from nest.errors import UserError


def open_digits(split: str) -> Source:
    """Open "train" or "test": 80 and 20 %, stratified and fixed."""
    if split not in ("train", "test"):
        raise UserError(f"digits has the splits 'train' and 'test', not {split!r}")
    part = 0 if split == "train" else 1
    images, labels = _scanned_digits()[part], _scanned_digits()[part + 2]
    return Source(
        read=lambda i: (images[i], int(labels[i])),
        num_examples=len(images),
        class_names=tuple("0123456789"),
        describe=lambda i: f"digit {i} of {split}",
    )


@functools.cache
def _scanned_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # 17 grey levels
    images = np.repeat(images[..., None], 3, axis=-1)
    labels = digits.target.astype(np.int32)
    return train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=0
    )
