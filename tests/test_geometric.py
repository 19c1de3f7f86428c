"""nest.augment.geometric, against Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import pictures
from PIL import Image

from nest.augment import geometric

GREY = (128, 128, 128)


def shares_equal(maps: jax.Array, by_pillow, images: np.ndarray) -> float:
    ours = geometric.warp(jnp.asarray(images), jnp.tile(maps, (len(images), 1)))
    theirs = np.stack([np.asarray(by_pillow(Image.fromarray(x))) for x in images])
    return (np.asarray(ours) == theirs).all(axis=-1).mean()


def affine(image: Image.Image, *coefficients: float) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, coefficients, fillcolor=GREY
    )


# Coefficients are float32 here and double in Pillow: a pixel whose source lies within a
# ten-thousandth of a pixel's edge may take the other one.
NEARLY_ALL = 0.999


@pytest.mark.parametrize("size", [(32, 32), (48, 64), (224, 224)])
@pytest.mark.parametrize("degrees", [0.0, 0.01, 13.7, -27.0, 30.0, 45.0, -90.0])
def test_rotate(degrees: float, size: tuple[int, int]):
    maps = geometric.rotate(jnp.float32([degrees]), *size)
    same = shares_equal(
        maps, lambda image: image.rotate(degrees, fillcolor=GREY), pictures(*size)
    )
    assert same > NEARLY_ALL


@pytest.mark.parametrize("amount", [0.0, 0.27, -0.27, 0.3, 0.113])
def test_shear(amount: float):
    for maps, coefficients in (
        (geometric.shear_x(jnp.float32([amount])), (1, amount, 0, 0, 1, 0)),
        (geometric.shear_y(jnp.float32([amount])), (1, 0, 0, amount, 1, 0)),
    ):
        same = shares_equal(
            maps, lambda image, c=coefficients: affine(image, *c), pictures()
        )
        assert same > NEARLY_ALL


@pytest.mark.parametrize("pixels", [0.0, 9.0, -9.0, 3.7, -3.2, 90.3])
def test_translate(pixels: float):
    for maps, coefficients in (
        (geometric.translate_x(jnp.float32([pixels])), (1, 0, pixels, 0, 1, 0)),
        (geometric.translate_y(jnp.float32([pixels])), (1, 0, 0, 0, 1, pixels)),
    ):
        same = shares_equal(
            maps, lambda image, c=coefficients: affine(image, *c), pictures()
        )
        assert same == 1


def test_shift_moves_by_at_most_the_padding_and_fills_black():
    images = jnp.asarray(pictures(8, 8)) | 1  # nothing is black
    shifted = np.asarray(geometric.random_shift(images, jax.random.key(0), 2))
    assert shifted.shape == images.shape
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = set()
    for image, out in zip(padded, shifted, strict=True):
        windows = {
            (y, x): image[y : y + 8, x : x + 8] for y in range(5) for x in range(5)
        }
        found = [at for at, window in windows.items() if (window == out).all()]
        assert found
        seen |= set(found)
    assert len(seen) > 1
    assert geometric.random_shift(images, jax.random.key(0), 0) is images


def test_flip_mirrors_half():
    images = jnp.tile(jnp.arange(4, dtype=jnp.uint8)[:, None], (400, 1, 1, 3))
    flipped = np.asarray(geometric.random_flip(images, jax.random.key(0)))
    mirrored = flipped[:, 0, 0, 0] == 3
    # Three standard deviations of 400 fair draws.
    assert abs(mirrored.mean() - 0.5) < 3 * 0.5 / 20
    np.testing.assert_array_equal(flipped[mirrored], images[mirrored][:, :, ::-1])
    np.testing.assert_array_equal(flipped[~mirrored], images[~mirrored])
