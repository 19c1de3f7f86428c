"""RandAugment (arXiv 1909.13719) as NesT was trained with it, for a whole batch.

Every image draws its own operation. Nothing branches: each layer is one table look-up,
one affine map and one blend, of which an image uses at most one; the other two leave it
as it is.
"""

import dataclasses

import jax
import jax.numpy as jnp

from nest.augment import geometric, photometric

OPERATIONS = (
    "auto_contrast",
    "equalize",
    "rotate",
    "posterize",
    "solarize",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "identity",
    "solarize_add",
    "invert",
)


@dataclasses.dataclass(frozen=True)
class Strengths:
    """What each operation does at the highest magnitude, 10; less is in proportion.

    Attributes:
      rotate: degrees, to either side.
      shear: pixels per pixel, to either side.
      translate: pixels, to either side.
      posterize: bits that stay (the fraction is cut off).
      solarize: threshold, [0, 256].
      solarize_add: what is added to values below 128, [0, 127].
      enhance: factor of color, contrast, brightness and sharpness at magnitude 0 and
        at magnitude 10; 1 changes nothing.
    """

    rotate: float
    shear: float
    translate: float
    posterize: float
    solarize: float
    solarize_add: float
    enhance: tuple[float, float]


def randaugment(
    images: jax.Array,
    key: jax.Array,
    *,
    layers: int,
    probability: float,
    magnitude: float,
    magnitude_std: float,
    strengths: Strengths,
) -> jax.Array:
    """Apply `layers` operations, drawn uniformly for every image and layer.

    Args:
      images: uint8 (B, H, W, 3).
      layers: 0 returns the images.
      probability: of each layer to happen, per image.
      magnitude, magnitude_std: mean and deviation of the normal distribution that
        magnitudes are drawn from, clipped to [0, 10].

    Returns:
      uint8 (B, H, W, 3).
    """
    count = images.shape[0]

    def layer(images: jax.Array, layer_key: jax.Array) -> tuple[jax.Array, None]:
        which, whether, how_much, sign = jax.random.split(layer_key, 4)
        operations = jax.random.randint(which, (count,), 0, len(OPERATIONS))
        happens = jax.random.bernoulli(whether, probability, (count,))
        operations = jnp.where(happens, operations, OPERATIONS.index("identity"))
        drawn = magnitude + magnitude_std * jax.random.normal(how_much, (count,))
        levels = jnp.clip(drawn, 0, 10) / 10
        signs = jax.random.rademacher(sign, (count,), jnp.float32)
        out = apply_operations(images, operations, levels, signs, strengths)
        return out, None

    if layers == 0:
        return images
    # A scan compiles one layer, not all of them.
    return jax.lax.scan(layer, images, jax.random.split(key, layers))[0]


def apply_operations(
    images: jax.Array,
    operations: jax.Array,
    levels: jax.Array,
    signs: jax.Array,
    strengths: Strengths,
) -> jax.Array:
    """Apply to each image the operation that is named for it.

    Args:
      images: uint8 (B, H, W, 3).
      operations: int32 (B,), indices into `OPERATIONS`.
      levels: float32 (B,) in [0, 1], a tenth of the magnitude.
      signs: float32 (B,), 1 or -1, for operations with two sides.

    Returns:
      uint8 (B, H, W, 3).
    """
    at = strengths
    height, width = images.shape[1:3]
    weakest, strongest = at.enhance
    factors = weakest + (strongest - weakest) * levels
    sided = levels * signs

    def whole(strength: float) -> jax.Array:
        return (levels * strength).astype(jnp.int32)

    counts = photometric.histogram(images)
    tables = _choose(
        operations,
        photometric.VALUES,
        auto_contrast=photometric.auto_contrast_table(counts),
        equalize=photometric.equalize_table(counts),
        posterize=photometric.posterize_table(whole(at.posterize)),
        solarize=photometric.solarize_table(whole(at.solarize)),
        solarize_add=photometric.solarize_add_table(whole(at.solarize_add)),
        contrast=photometric.contrast_table(images, factors),
        brightness=photometric.brightness_table(factors),
        invert=photometric.invert_table(),
    )
    maps = _choose(
        operations,
        geometric.translate_x(jnp.float32(0)),
        rotate=geometric.rotate(sided * at.rotate, height, width),
        shear_x=geometric.shear_x(sided * at.shear),
        shear_y=geometric.shear_y(sided * at.shear),
        translate_x=geometric.translate_x(sided * at.translate),
        translate_y=geometric.translate_y(sided * at.translate),
    )
    is_color = operations == OPERATIONS.index("color")
    blends = is_color | (operations == OPERATIONS.index("sharpness"))
    images = photometric.look_up(images, tables)
    images = geometric.warp(images, maps)
    return photometric.color_and_sharpness(
        images, is_color, jnp.where(blends, factors, 1)
    )


def _choose(
    operations: jax.Array, otherwise: jax.Array, **choices: jax.Array
) -> jax.Array:
    """Take for each image, along axis 0, the choice named like its operation."""
    shape = jnp.broadcast_shapes(*(choice.shape for choice in choices.values()))
    chosen = jnp.broadcast_to(otherwise, shape)
    for name, choice in choices.items():
        mine = operations == OPERATIONS.index(name)
        mine = mine.reshape(-1, *(1,) * (len(shape) - 1))
        chosen = jnp.where(mine, choice, chosen)
    return chosen
