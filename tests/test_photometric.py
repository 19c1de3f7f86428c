"""nest.augment.photometric, against Pillow."""

import jax.numpy as jnp
import numpy as np
import pytest
from pictures import pictures
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from nest.augment import photometric


def by_pillow(operation) -> np.ndarray:
    return np.stack(
        [np.asarray(operation(Image.fromarray(image))) for image in pictures()]
    )


def by_table(table) -> np.ndarray:
    images = jnp.asarray(pictures())
    tables = jnp.broadcast_to(table, (len(images), 3, 256))
    return np.asarray(photometric.look_up(images, tables))


def every(value, dtype) -> jnp.ndarray:
    return jnp.full(len(pictures()), value, dtype)


@pytest.mark.parametrize("bits", [0, 1, 2, 3, 4, 8])
def test_posterize(bits: int):
    ours = by_table(photometric.posterize_table(every(bits, jnp.int32)))
    # Pillow's own range ends at 1 bit; none is black.
    theirs = by_pillow(lambda image: ImageOps.posterize(image, max(bits, 1)))
    np.testing.assert_array_equal(ours, theirs if bits else 0 * theirs)


@pytest.mark.parametrize("threshold", [0, 1, 100, 128, 230, 256])
def test_solarize(threshold: int):
    ours = by_table(photometric.solarize_table(every(threshold, jnp.int32)))
    theirs = by_pillow(lambda image: ImageOps.solarize(image, threshold))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("addition", [0, 1, 99, 110])
def test_solarize_add(addition: int):
    ours = by_table(photometric.solarize_add_table(every(addition, jnp.int32)))
    table = [i + addition if i < 128 else i for i in range(256)]
    theirs = by_pillow(lambda image: image.point(table * 3))
    np.testing.assert_array_equal(ours, theirs)


def test_invert():
    theirs = by_pillow(ImageOps.invert)
    np.testing.assert_array_equal(by_table(photometric.invert_table()), theirs)


def test_equalize():
    counts = photometric.histogram(jnp.asarray(pictures()))
    theirs = by_pillow(ImageOps.equalize)
    np.testing.assert_array_equal(by_table(photometric.equalize_table(counts)), theirs)


def test_auto_contrast():
    counts = photometric.histogram(jnp.asarray(pictures()))
    ours = by_table(photometric.auto_contrast_table(counts))
    theirs = by_pillow(ImageOps.autocontrast)
    # Pillow divides in floating point and cuts off: where the quotient is whole it may
    # fall a level short.
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert (ours >= theirs).all()
    assert (ours == theirs).mean() > 0.9


def test_auto_contrast_of_every_range():
    """All pairs of darkest and lightest value, as one-row pictures of 256 values."""
    low, high = np.meshgrid(np.arange(0, 256, 5), np.arange(0, 256, 3), indexing="ij")
    low, high = low.ravel(), high.ravel()
    keep = low < high
    low, high = low[keep], high[keep]
    counts = np.zeros((len(low), 3, 256), np.int32)
    for i in range(len(low)):
        counts[i, :, [low[i], high[i]]] = 1
    ours = np.asarray(photometric.auto_contrast_table(counts))[:, 0]
    # In exact arithmetic.
    exact = 255 * (np.arange(256) - low[:, None]) // (high - low)[:, None]
    np.testing.assert_array_equal(ours, np.clip(exact, 0, 255))


FACTORS = [0.0, 0.1, 0.37, 1.0, 1.21, 1.72, 1.9]


@pytest.mark.parametrize("factor", FACTORS)
def test_brightness_and_contrast(factor: float):
    factors = every(factor, jnp.float32)
    ours = by_table(photometric.brightness_table(factors))
    theirs = by_pillow(lambda image: ImageEnhance.Brightness(image).enhance(factor))
    np.testing.assert_array_equal(ours, theirs)
    ours = by_table(photometric.contrast_table(jnp.asarray(pictures()), factors))
    theirs = by_pillow(lambda image: ImageEnhance.Contrast(image).enhance(factor))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("enhancer", [ImageEnhance.Color, ImageEnhance.Sharpness])
def test_color_and_sharpness(factor: float, enhancer):
    ours = photometric.color_and_sharpness(
        jnp.asarray(pictures()),
        every(enhancer is ImageEnhance.Color, bool),
        every(factor, jnp.float32),
    )
    theirs = by_pillow(lambda image: enhancer(image).enhance(factor))
    np.testing.assert_array_equal(ours, theirs)


def test_smooth_leaves_an_image_that_is_all_border():
    images = jnp.asarray(pictures()[:, :2])
    np.testing.assert_array_equal(photometric.smooth(images), images)
    smoothed = Image.fromarray(pictures()[0]).filter(ImageFilter.SMOOTH)
    np.testing.assert_array_equal(
        photometric.smooth(jnp.asarray(pictures()[:1]))[0], smoothed
    )


def test_histogram():
    counts = np.asarray(photometric.histogram(jnp.asarray(pictures())))
    theirs = np.stack(
        [np.reshape(Image.fromarray(x).histogram(), (3, 256)) for x in pictures()]
    )
    np.testing.assert_array_equal(counts, theirs)
