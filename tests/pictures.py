"""Pictures to try operations on: noise, a photograph, and hard cases."""

import functools

import numpy as np
from PIL import Image


@functools.cache
def pictures(height: int = 48, width: int = 64) -> np.ndarray:
    """Return uint8 (6, height, width, 3)."""
    from sklearn.datasets import load_sample_image

    def photograph(name: str) -> np.ndarray:
        return np.asarray(Image.fromarray(load_sample_image(name)).resize(size))

    size = (width, height)
    rng = np.random.default_rng(0)
    dark = rng.integers(20, 61, (height, width, 3))
    ramp = np.broadcast_to(np.linspace(5, 250, width)[:, None], dark.shape)
    return np.stack(
        [
            photograph("china.jpg"),
            photograph("flower.jpg"),
            rng.integers(0, 256, dark.shape),
            dark,
            ramp,
            np.full(dark.shape, (7, 128, 255)),
        ]
    ).astype(np.uint8)
