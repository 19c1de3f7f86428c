"""nest.augment.recipe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nest.augment.recipe import (
    augment,
    normalize,
    random_flip,
    random_shift,
    smooth_labels,
)
from nest.training.devices import batch_sharding, data_mesh


def images(batch: int = 64, size: int = 5) -> np.ndarray:
    shape = (batch, size, size, 3)
    return np.random.default_rng(0).integers(1, 256, shape, np.uint8)


def test_random_shift_cuts_windows_of_the_padded_image():
    x, padding = images(400), 2
    shifted = np.asarray(random_shift(jnp.asarray(x), jax.random.key(0), padding))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    found = set()
    for image, wide in zip(shifted, padded, strict=True):
        fits = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if (wide[i : i + 5, j : j + 5] == image).all()
        ]
        assert len(fits) == 1
        found |= set(fits)
    assert len(found) == 25  # each of the 25 shifts, 16 times on average


def test_no_padding_changes_nothing():
    x = jnp.asarray(images())
    assert random_shift(x, jax.random.key(0), 0) is x


def test_random_flip_mirrors_half():
    x = images(2000)
    flipped = np.asarray(random_flip(jnp.asarray(x), jax.random.key(0)))
    mirrored = (flipped == x[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (flipped == x).all(axis=(1, 2, 3))
    assert (mirrored ^ same).all()
    # 2,000 draws of 1/2 have a deviation of 22.
    assert mirrored.sum() == pytest.approx(1000, abs=110)


def test_normalize():
    x = images()
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    expected = (x / 255 - np.array(mean)) / np.array(std)
    # float32 rounding of values below 6.
    np.testing.assert_allclose(
        normalize(jnp.asarray(x), mean, std), expected, atol=2e-6
    )


def test_the_device_count_does_not_change_the_picture(two_devices):
    x, key = jnp.asarray(images()), jax.random.key(7)

    def recipe(x: jax.Array) -> jax.Array:
        return augment(
            x, key, shift=2, flip=True, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
        )

    one = jax.jit(recipe)(x)
    mesh = data_mesh(two_devices)
    two = jax.jit(recipe)(jax.device_put(x, batch_sharding(mesh)))
    assert len(two.sharding.device_set) == 2
    np.testing.assert_array_equal(one, two)


def test_smooth_labels():
    targets = smooth_labels(jnp.array([2, 0]), 4, 0.1)
    expected = [[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]]
    np.testing.assert_allclose(targets, expected, rtol=1e-6)
