"""Operations that move pixels: shift, flip and the affine maps of RandAugment.

An affine map is float32 (B, 6), (a, b, c, d, e, f) as in Pillow's Image.transform: the
output pixel whose centre is (x, y) takes the input pixel that holds
(a x + b y + c, d x + e y + f).
"""

import jax
import jax.numpy as jnp

FILL = 128  # grey, for what comes from outside of the image


def random_shift(images: jax.Array, key: jax.Array, padding: int) -> jax.Array:
    """Pad with black and cut a random window of the old size, each image its own.

    Args:
      images: (B, H, W, C).
      padding: pixels added on every side; 0 returns the images.
    """
    if padding == 0:
        return images
    batch, height, width, channels = images.shape
    border = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, border)
    corners = jax.random.randint(key, (batch, 2), 0, 2 * padding + 1)

    def window(image: jax.Array, corner: jax.Array) -> jax.Array:
        start = (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(image, start, (height, width, channels))

    return jax.vmap(window)(padded, corners)


def random_flip(images: jax.Array, key: jax.Array) -> jax.Array:
    """Mirror each image of (B, H, W, C) left to right with probability 1/2."""
    flip = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)


def shear_x(amount: jax.Array) -> jax.Array:
    """Return the maps that move row y by `amount` * y pixels, float32 (B,)."""
    return _maps(1, amount, 0, 0, 1, 0)


def shear_y(amount: jax.Array) -> jax.Array:
    """Return the maps that move column x by `amount` * x pixels, float32 (B,)."""
    return _maps(1, 0, 0, amount, 1, 0)


def translate_x(pixels: jax.Array) -> jax.Array:
    """Return the maps that move to the left by `pixels`, float32 (B,)."""
    return _maps(1, 0, pixels, 0, 1, 0)


def translate_y(pixels: jax.Array) -> jax.Array:
    """Return the maps that move up by `pixels`, float32 (B,)."""
    return _maps(1, 0, 0, 0, 1, pixels)


def rotate(degrees: jax.Array, height: int, width: int) -> jax.Array:
    """Return the maps that turn counter-clockwise about the centre, float32 (B,)."""
    radians = jnp.deg2rad(degrees)
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    x, y = width / 2, height / 2
    return _maps(cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)


def _maps(*coefficients: jax.Array | float) -> jax.Array:
    return jnp.stack(jnp.broadcast_arrays(*map(jnp.float32, coefficients)), axis=-1)


def warp(images: jax.Array, maps: jax.Array) -> jax.Array:
    """Apply an affine map to each image, by the nearest pixel.

    Args:
      images: uint8 (B, H, W, 3), sides up to 8192.
      maps: float32 (B, 6).

    Returns:
      uint8 (B, H, W, 3); grey 128 where nothing is.
    """
    batch, height, width, _ = images.shape
    a, b, c, d, e, f = jnp.moveaxis(maps[..., None, None], 1, 0)
    x = jnp.arange(width)
    y = jnp.arange(height)[:, None]
    # 16.16 fixed point, as Pillow has it: the same pixel is the nearest one.
    columns = _fixed(c + (a + b) / 2) + _fixed(a) * x + _fixed(b) * y >> 16
    rows = _fixed(f + (d + e) / 2) + _fixed(d) * x + _fixed(e) * y >> 16
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    source = jnp.where(inside, rows * width + columns, 0)
    # The three channels travel as one number: a third of the look-ups.
    red, green, blue = jnp.moveaxis(images.astype(jnp.uint32), -1, 0)
    packed = (red | green << 8 | blue << 16).reshape(batch, -1)
    moved = jnp.take_along_axis(packed, source.reshape(batch, -1), axis=1)
    moved = moved.reshape(batch, height, width)
    moved = jnp.where(inside, moved, FILL * 0x010101)
    channels = [moved >> shift & 255 for shift in (0, 8, 16)]
    return jnp.stack(channels, axis=-1).astype(images.dtype)


def _fixed(x: jax.Array) -> jax.Array:
    return jnp.floor(x * 65536 + 0.5).astype(jnp.int32)
