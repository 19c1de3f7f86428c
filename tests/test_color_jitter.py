"""nest.augment.color_jitter, against colorsys and plain numpy."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import pictures

from nest.augment.color_jitter import adjust, color_jitter, turn_hue

OFF = dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)


def images() -> np.ndarray:
    return pictures(6, 8).astype(np.float32) / 255


def by_hsv(image: np.ndarray, change) -> np.ndarray:
    flat = [
        colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*p)))
        for p in image.reshape(-1, 3).astype(float)
    ]
    return np.array(flat).reshape(image.shape)


@pytest.mark.parametrize("turns", [0.0, 0.06, -0.06, 0.5, 1.0])
def test_hue(turns: float):
    ours = turn_hue(jnp.asarray(images()), jnp.full((len(images()), 1, 1, 1), turns))
    theirs = by_hsv(images(), lambda h, s, v: ((h + turns) % 1, s, v))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)  # float32 against double


@pytest.mark.parametrize("amount", [-0.24, 0.0, 0.24, 1.0])
def test_saturation_brightness_and_contrast(amount: float):
    x = images()
    factor = 1 + amount
    mean = x.mean(axis=(1, 2), keepdims=True)
    expected = {
        0: np.clip(x * factor, 0, 1),
        1: np.clip(mean + factor * (x - mean), 0, 1),
        2: by_hsv(x, lambda h, s, v: (h, min(s * factor, 1), v)),
    }
    for kind, theirs in expected.items():
        ours = adjust(
            jnp.asarray(x),
            jnp.full(len(x), kind),
            jnp.full(len(x), jnp.float32(amount)),
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_grey_and_probability():
    x = jnp.tile(jnp.asarray(images()[:1]), (2000, 1, 1, 1))
    key = jax.random.key(0)
    out = color_jitter(x, key, probability=0.0, grey=0.2, **OFF | {"brightness": 0.5})
    colourless = np.asarray((out[..., 0] == out[..., 2]).all(axis=(1, 2)))
    # Four standard deviations of 2,000 draws.
    assert abs(colourless.mean() - 0.2) < 4 * np.sqrt(0.16 / 2000)
    np.testing.assert_array_equal(out[~colourless], x[~colourless])
    luminance = x[0] @ np.array([0.2989, 0.587, 0.114])
    np.testing.assert_allclose(out[colourless][0, ..., 0], luminance, atol=1e-6)
    out = color_jitter(x, key, probability=0.8, grey=0.0, **OFF | {"brightness": 0.5})
    changed = np.asarray((out != x).any(axis=(1, 2, 3)))
    assert abs(changed.mean() - 0.8) < 4 * np.sqrt(0.16 / 2000)


def test_the_order_differs_between_images():
    """Brightness and contrast do not commute once values are clipped."""
    x = jnp.tile(jnp.asarray(images()[:1]), (500, 1, 1, 1))
    out = color_jitter(
        x,
        jax.random.key(0),
        probability=1.0,
        grey=0.0,
        brightness=0.24,
        contrast=0.24,
        saturation=0.24,
        hue=0.06,
    )
    assert out.min() >= 0 and out.max() <= 1 and np.isfinite(out).all()
    assert len(np.unique(np.asarray(out[:, 0, 0, 0]))) > 490


def test_all_off_leaves_the_images():
    x = jnp.asarray(images())
    out = color_jitter(x, jax.random.key(0), probability=1.0, grey=0.0, **OFF)
    np.testing.assert_allclose(out, x, atol=1e-6)
