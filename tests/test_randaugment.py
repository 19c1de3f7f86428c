"""nest.augment.randaugment: every operation against Pillow, and what is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import pictures
from PIL import Image, ImageEnhance, ImageOps

from nest.augment import randaugment
from nest.augment.randaugment import OPERATIONS, Strengths

STRENGTHS = Strengths(
    rotate=30.0,
    shear=0.3,
    translate=10.0,
    posterize=4.0,
    solarize=256.0,
    solarize_add=110.0,
    enhance=(0.1, 1.9),
)


def affine(image: Image.Image, *coefficients: float) -> Image.Image:
    grey = (128, 128, 128)
    return image.transform(
        image.size, Image.Transform.AFFINE, coefficients, fillcolor=grey
    )


def by_pillow(name: str, image: Image.Image, level: float, sign: int) -> Image.Image:
    """The published meaning of an operation at a level in [0, 1]."""
    factor, sided = 0.1 + 1.8 * level, sign * level
    add = int(110 * level)
    match name:
        case "auto_contrast":
            return ImageOps.autocontrast(image)
        case "equalize":
            return ImageOps.equalize(image)
        case "rotate":
            return image.rotate(30 * sided, fillcolor=(128, 128, 128))
        case "posterize":
            return ImageOps.posterize(image, int(4 * level))
        case "solarize":
            return ImageOps.solarize(image, int(256 * level))
        case "color":
            return ImageEnhance.Color(image).enhance(factor)
        case "contrast":
            return ImageEnhance.Contrast(image).enhance(factor)
        case "brightness":
            return ImageEnhance.Brightness(image).enhance(factor)
        case "sharpness":
            return ImageEnhance.Sharpness(image).enhance(factor)
        case "shear_x":
            return affine(image, 1, 0.3 * sided, 0, 0, 1, 0)
        case "shear_y":
            return affine(image, 1, 0, 0, 0.3 * sided, 1, 0)
        case "translate_x":
            return affine(image, 1, 0, 10 * sided, 0, 1, 0)
        case "translate_y":
            return affine(image, 1, 0, 0, 0, 1, 10 * sided)
        case "solarize_add":
            return image.point([i + add if i < 128 else i for i in range(256)] * 3)
        case "invert":
            return ImageOps.invert(image)
        case "identity":
            return image


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("level", [0.33, 0.72, 0.87, 0.953])
def test_every_operation_is_pillows(level: float, sign: int):
    """All operations in one batch: none touches another's image."""
    images = pictures()
    count = len(images)
    batch = jnp.tile(jnp.asarray(images), (len(OPERATIONS), 1, 1, 1))
    ours = randaugment.apply_operations(
        batch,
        jnp.repeat(jnp.arange(len(OPERATIONS)), count),
        jnp.full(len(batch), level),
        jnp.full(len(batch), sign, jnp.float32),
        STRENGTHS,
    )
    for k, name in enumerate(OPERATIONS):
        mine = np.asarray(ours[k * count : (k + 1) * count]).astype(int)
        theirs = np.stack(
            [
                np.asarray(by_pillow(name, Image.fromarray(x), level, sign))
                for x in images
            ]
        )
        difference = np.abs(mine - theirs)
        if name in ("rotate", "shear_x", "shear_y"):  # see test_geometric.py
            assert (difference == 0).mean() > 0.999, name
        elif name == "auto_contrast":  # see test_photometric.py
            assert difference.max() <= 1, name
        elif name in ("color", "contrast", "brightness", "sharpness"):
            # The factor is float32 here: a product may fall on the other side of a
            # whole number.
            assert difference.max() <= 1 and (difference == 0).mean() > 0.999, name
        else:
            np.testing.assert_array_equal(mine, theirs, err_msg=name)


def draw(monkeypatch, *, count: int, **changes) -> tuple[np.ndarray, ...]:
    """Operations, levels and signs that the layers draw."""
    drawn = []

    def spy(images: jax.Array, *what: jax.Array) -> jax.Array:
        drawn.append(what[:3])
        return images

    def scan(layer, images: jax.Array, keys: jax.Array) -> tuple[jax.Array, None]:
        for key in keys:
            images, _ = layer(images, key)
        return images, None

    monkeypatch.setattr(randaugment, "apply_operations", spy)
    monkeypatch.setattr(jax.lax, "scan", scan)
    arguments = dict(
        layers=1, probability=0.5, magnitude=9.0, magnitude_std=0.5, strengths=STRENGTHS
    )
    randaugment.randaugment(
        jnp.zeros((count, 1, 1, 3), jnp.uint8),
        jax.random.key(0),
        **arguments | changes,
    )
    return tuple(np.concatenate(x) for x in zip(*drawn, strict=True))


def test_operations_are_drawn_as_often_as_published(monkeypatch):
    count = 64_000
    operations, levels, signs = draw(monkeypatch, count=count)
    seen = np.bincount(operations, minlength=16) / count
    expected = np.full(16, 0.5 / 16)
    expected[OPERATIONS.index("identity")] += 0.5
    # Four standard deviations of a share of independent draws.
    bound = 4 * np.sqrt(expected * (1 - expected) / count)
    assert (np.abs(seen - expected) < bound).all()
    assert abs(signs.mean()) < 4 / np.sqrt(count)
    assert levels.max() == 1 and levels.min() > 0.5
    # N(9, 0.5) cut at 10, two deviations above its mean: P(level = 1) = 2.28 %.
    assert abs((levels == 1).mean() - 0.02275) < 4 * np.sqrt(0.0222 / count)
    assert abs(np.median(levels) - 0.9) < 0.001


def test_layers_draw_on_their_own(monkeypatch):
    operations, _, _ = draw(monkeypatch, count=1000, layers=2, probability=1.0)
    first, second = operations[:1000], operations[1000:]
    # Independent uniform draws agree in 1 of 16.
    assert 0.03 < (first == second).mean() < 0.1


def test_no_layers_and_no_probability_leave_the_images():
    images = jnp.asarray(pictures())
    arguments = dict(magnitude=9.0, magnitude_std=0.5, strengths=STRENGTHS)
    for layers, probability in ((0, 1.0), (2, 0.0)):
        out = randaugment.randaugment(
            images,
            jax.random.key(0),
            layers=layers,
            probability=probability,
            **arguments,
        )
        np.testing.assert_array_equal(out, images)
