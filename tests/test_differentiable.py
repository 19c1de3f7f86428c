"""nest.augment.differentiable: what each operation does to an image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nest.augment.differentiable import (
    augment_differentiably,
    random_color,
    random_cutout,
    random_translation,
)

IMAGES = np.random.default_rng(0).uniform(-1, 1, (64, 8, 8, 3)).astype(np.float32)


def test_no_policy_returns_the_images():
    same = augment_differentiably(jnp.asarray(IMAGES), jax.random.key(0), ())
    np.testing.assert_array_equal(same, IMAGES)


def test_translation_moves_by_whole_pixels_and_every_shift_occurs():
    moved = np.asarray(
        random_translation(jnp.asarray(IMAGES), jax.random.key(0), 1 / 4)
    )
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = set()
    for image, around in zip(moved, padded, strict=True):
        found = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if np.array_equal(image, around[row : row + 8, column : column + 8])
        ]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) > 20  # of 25, in 64 draws


def test_cutout_blanks_a_square_and_nothing_else():
    cut = np.asarray(random_cutout(jnp.asarray(IMAGES), jax.random.key(0)))
    blank = (cut == 0).all(axis=-1)
    np.testing.assert_array_equal(cut[~blank], IMAGES[~blank])
    for mask in blank:
        rows, columns = mask.any(axis=1), mask.any(axis=0)
        np.testing.assert_array_equal(mask, np.outer(rows, columns))
        assert 2 <= rows.sum() <= 4 and 2 <= columns.sum() <= 4
    assert blank.sum(axis=(1, 2)).max() == 16  # half of each side


def test_colors_change_image_by_image_and_keep_their_order():
    color = np.asarray(random_color(jnp.asarray(IMAGES), jax.random.key(0)))
    grey, changed = IMAGES.mean(axis=-1), color.mean(axis=-1)
    # Saturation leaves the grey image, which brightness and contrast map linearly.
    slopes = []
    for x, y in zip(grey, changed, strict=True):
        slope, offset = np.polyfit(x.ravel(), y.ravel(), 1)
        np.testing.assert_allclose(y, slope * x + offset, atol=1e-5)
        slopes.append(slope)
    assert 0.5 <= min(slopes) < 0.7 and 1.3 < max(slopes) <= 1.5
    brightness = color.mean(axis=(1, 2, 3)) - IMAGES.mean(axis=(1, 2, 3))
    assert -0.5 <= brightness.min() < -0.3 and 0.3 < brightness.max() <= 0.5


@pytest.mark.parametrize("policy", ["color", "translation", "cutout"])
def test_gradients_flow_through(policy):
    """Against finite differences in a random direction; but color they are linear."""
    key = jax.random.key(3)
    images = jnp.asarray(IMAGES[:4])
    direction = jax.random.normal(jax.random.key(4), images.shape)
    weights = jax.random.normal(jax.random.key(5), images.shape)

    def value(images: jax.Array) -> jax.Array:
        return (augment_differentiably(images, key, (policy,)) * weights).sum()

    slope = (value(images + 0.1 * direction) - value(images - 0.1 * direction)) / 0.2
    gradient = (jax.grad(value)(images) * direction).sum()
    assert float(gradient) == pytest.approx(float(slope), rel=1e-3, abs=1e-3)
    assert float(jnp.abs(gradient)) > 0.01
