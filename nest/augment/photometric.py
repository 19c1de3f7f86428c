"""Operations on colours, each with the result of Pillow's operation of that name.

All but two map every channel by a table of 256 values, so that a batch in which each
image gets another operation is one look-up. Colour and sharpness look at other channels
or pixels; they blend the image with a degenerate one.

Images are uint8 (B, H, W, 3); a table is int32 (B, 3, 256).
"""

import jax
import jax.numpy as jnp
import numpy as np

VALUES = np.arange(256, dtype=np.int32)


def look_up(images: jax.Array, tables: jax.Array) -> jax.Array:
    """Replace every value of a channel by the entry of that channel's table."""
    batch, height, width, channels = images.shape
    pixels = images.reshape(batch, height * width, channels).swapaxes(1, 2)
    mapped = jnp.take_along_axis(
        tables.astype(jnp.uint8), pixels.astype(jnp.int32), axis=2
    )
    return mapped.swapaxes(1, 2).reshape(images.shape)


def blend(degenerate: jax.Array, images: jax.Array, factor: jax.Array) -> jax.Array:
    """Move from `degenerate` towards `images`: 0 is the former, 1 the latter.

    Beyond 1 goes on in that direction, clipped to [0, 255]; fractions are cut off.

    Args:
      degenerate, images: integers of one shape.
      factor: float32, broadcast against them.
    """
    start = degenerate.astype(jnp.float32)
    end = images.astype(jnp.float32)
    return jnp.clip(start + factor * (end - start), 0, 255).astype(images.dtype)


def grey(images: jax.Array) -> jax.Array:
    """Return the luminance (ITU-R 601-2, in 16-bit fixed point), uint8 (B, H, W, 1)."""
    red, green, blue = jnp.moveaxis(images.astype(jnp.int32), -1, 0)
    luminance = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    return luminance.astype(jnp.uint8)[..., None]


def smooth(images: jax.Array) -> jax.Array:
    """Average 3x3 pixels with the centre counted five times; the border stays."""
    height, width = images.shape[1:3]
    if height < 3 or width < 3:
        return images
    x = images.astype(jnp.int32)
    rows = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    total += 4 * x[:, 1:-1, 1:-1]
    inner = ((2 * total + 13) // 26).astype(images.dtype)  # rounded thirteenths
    return images.at[:, 1:-1, 1:-1].set(inner)


def histogram(images: jax.Array) -> jax.Array:
    """Count the values of every channel: int32 (B, 3, 256)."""
    pixels = jnp.moveaxis(images, -1, 1).reshape(images.shape[0], 3, -1)

    def count(values: jax.Array) -> jax.Array:
        return jnp.zeros(256, jnp.int32).at[values].add(1)

    return jax.vmap(jax.vmap(count))(pixels.astype(jnp.int32))


def auto_contrast_table(counts: jax.Array) -> jax.Array:
    """Stretch each channel's values from its darkest .. lightest to 0 .. 255.

    Args:
      counts: see `histogram`.
    """
    present = counts > 0
    low = jnp.argmax(present, axis=-1)[..., None]
    high = 255 - jnp.argmax(present[..., ::-1], axis=-1)[..., None]
    # Pillow computes this in floating point, and may be a level lower where the
    # quotient is a whole number.
    stretched = 255 * (VALUES - low) // jnp.maximum(high - low, 1)
    return jnp.where(high > low, jnp.clip(stretched, 0, 255), VALUES)


def equalize_table(counts: jax.Array) -> jax.Array:
    """Spread each channel's values so that their histogram becomes level.

    Args:
      counts: see `histogram`.
    """
    last = 255 - jnp.argmax(counts[..., ::-1] > 0, axis=-1)[..., None]
    of_last = jnp.take_along_axis(counts, last, axis=-1)
    step = (counts.sum(axis=-1, keepdims=True) - of_last) // 255
    before = jnp.cumsum(counts, axis=-1) - counts
    table = jnp.clip((step // 2 + before) // jnp.maximum(step, 1), 0, 255)
    return jnp.where(step > 0, table, VALUES)


def posterize_table(bits: jax.Array) -> jax.Array:
    """Keep the `bits` highest bits, int32 (B,) in [0, 8]: (B, 1, 256)."""
    drop = 8 - bits[:, None, None]
    return (VALUES >> drop) << drop


def solarize_table(threshold: jax.Array) -> jax.Array:
    """Invert the values of `threshold` and above, int32 (B,): (B, 1, 256)."""
    return jnp.where(threshold[:, None, None] > VALUES, VALUES, 255 - VALUES)


def solarize_add_table(addition: jax.Array) -> jax.Array:
    """Add to the values below 128, int32 (B,) in [0, 127]: (B, 1, 256)."""
    return jnp.where(VALUES < 128, VALUES + addition[:, None, None], VALUES)


def invert_table() -> jax.Array:
    """Return 255 minus the value, (256,)."""
    return 255 - VALUES


def brightness_table(factor: jax.Array) -> jax.Array:
    """Blend with black, float32 (B,): (B, 1, 256)."""
    return blend(jnp.zeros_like(VALUES), VALUES, factor[:, None, None])


def contrast_table(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Blend with the mean luminance of each image, float32 (B,): (B, 1, 256)."""
    luminance = grey(images).astype(jnp.int32)
    count = luminance[0].size
    mean = (2 * luminance.sum(axis=(1, 2, 3)) + count) // (2 * count)
    return blend(mean[:, None, None], VALUES, factor[:, None, None])


def color_and_sharpness(
    images: jax.Array, is_color: jax.Array, factor: jax.Array
) -> jax.Array:
    """Blend with the luminance where `is_color`, elsewhere with the smoothed image.

    Args:
      is_color: bool (B,).
      factor: float32 (B,); 1 leaves an image as it is.
    """
    wide = (slice(None), None, None, None)
    degenerate = jnp.where(is_color[wide], grey(images), smooth(images))
    return blend(degenerate, images, factor[wide])
