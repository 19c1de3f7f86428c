"""Colour jitter in the manner of SimCLR v2 (arXiv 2006.10029), for a whole batch.

Images are float32 (B, H, W, 3) in [0, 1].
"""

import jax
import jax.numpy as jnp

LUMINANCE = (0.2989, 0.587, 0.114)


def color_jitter(
    images: jax.Array,
    key: jax.Array,
    *,
    probability: float,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    grey: float,
) -> jax.Array:
    """Change brightness, contrast, saturation and hue, in an order of each image's own.

    Args:
      images: float32 (B, H, W, 3) in [0, 1].
      probability: of an image to be jittered.
      brightness, contrast, saturation: factors are uniform in 1 +- this, in [0, 1].
      hue: turns are uniform in +- this, in [0, 0.5].
      grey: probability of an image to lose its colours, after the jitter.

    Returns:
      float32 (B, H, W, 3) in [0, 1].
    """
    count = images.shape[0]
    whether, amounts, order, greying = jax.random.split(key, 4)
    spread = jnp.array((brightness, contrast, saturation, hue))
    drawn = spread * jax.random.uniform(amounts, (count, 4), minval=-1, maxval=1)
    order = jnp.argsort(jax.random.uniform(order, (count, 4)))

    def turn(images: jax.Array, kind: jax.Array) -> tuple[jax.Array, None]:
        amount = jnp.take_along_axis(drawn, kind[:, None], axis=1)[:, 0]
        return adjust(images, kind, amount), None

    jittered, _ = jax.lax.scan(turn, images, order.T)
    wide = (count, 1, 1, 1)
    happens = jax.random.bernoulli(whether, probability, wide)
    images = jnp.where(happens, jittered, images)
    luminance = (images * jnp.array(LUMINANCE)).sum(axis=-1, keepdims=True)
    return jnp.where(jax.random.bernoulli(greying, grey, wide), luminance, images)


def adjust(images: jax.Array, kind: jax.Array, amount: jax.Array) -> jax.Array:
    """Adjust one thing in each image.

    Args:
      kind: int32 (B,): 0 is brightness, 1 contrast, 2 saturation, 3 hue.
      amount: float32 (B,); hue is turned by it, the others multiplied by 1 + it.
    """
    kind, amount = (x[:, None, None, None] for x in (kind, amount))
    value = images.max(axis=-1, keepdims=True)
    chroma = value - images.min(axis=-1, keepdims=True)
    mean = images.mean(axis=(1, 2), keepdims=True)
    factor = 1 + amount
    # All three stretch the distance to an anchor; a saturation of 1 is the most.
    anchor = jnp.where(kind == 0, 0, jnp.where(kind == 1, mean, value))
    most = value / jnp.maximum(chroma, 1e-12)
    factor = jnp.where(kind == 2, jnp.minimum(factor, most), factor)
    stretched = jnp.clip(anchor + factor * (images - anchor), 0, 1)
    return jnp.where(kind == 3, turn_hue(images, amount), stretched)


def turn_hue(images: jax.Array, turns: jax.Array) -> jax.Array:
    """Turn the hue; saturation and value stay.

    Args:
      turns: float32 (B, 1, 1, 1); a whole turn changes nothing.
    """
    red, green, blue = jnp.moveaxis(images, -1, 0)
    value, low = images.max(axis=-1), images.min(axis=-1)
    chroma = value - low
    unit = jnp.where(chroma > 0, chroma, 1)
    sixths = jnp.where(
        value == red,
        (green - blue) / unit,
        jnp.where(value == green, 2 + (blue - red) / unit, 4 + (red - green) / unit),
    )
    sixths = sixths + 6 * turns[..., 0]
    # Each channel rises and falls over the colour wheel, a third of a turn apart.
    offsets = jnp.array((5, 3, 1))
    place = (sixths[..., None] + offsets) % 6
    share = jnp.clip(jnp.minimum(place, 4 - place), 0, 1)
    return value[..., None] - chroma[..., None] * share
