"""Differentiable augmentation of what a discriminator sees (arXiv 2006.10738).

The same operations, drawn anew, change real and generated images, and the generator's
gradient flows through them; without, a discriminator learns a small dataset by heart.
"""

import jax
import jax.numpy as jnp

POLICIES = ("color", "translation", "cutout")


def augment_differentiably(
    images: jax.Array, key: jax.Array, policy: tuple[str, ...]
) -> jax.Array:
    """Apply the operations of the policy in the order of `POLICIES`.

    Args:
      images: float32 (B, S, S, C) in [-1, 1].
      key: all randomness; row i of a batch gets the same whatever the device count.
      policy: some of `POLICIES`; none returns the images.
    """
    color_key, translation_key, cutout_key = jax.random.split(key, 3)
    if "color" in policy:
        images = random_color(images, color_key)
    if "translation" in policy:
        images = random_translation(images, translation_key)
    if "cutout" in policy:
        images = random_cutout(images, cutout_key)
    return images


def random_color(images: jax.Array, key: jax.Array) -> jax.Array:
    """Change brightness (+-0.5), saturation (0 to 2 times), contrast (0.5 to 1.5)."""
    shape = (len(images), 1, 1, 1)
    brightness, saturation, contrast = jax.random.uniform(key, (3, *shape))
    images = images + brightness - 0.5
    grey = images.mean(axis=-1, keepdims=True)
    images = (images - grey) * (2 * saturation) + grey
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return (images - mean) * (contrast + 0.5) + mean


def random_translation(
    images: jax.Array, key: jax.Array, share: float = 1 / 8
) -> jax.Array:
    """Move each image by whole pixels, at most this share of its side; fill with 0.

    Each axis is a product with a matrix of zeros and ones, whose gradient is another
    product; that of a gather is a scatter, which is slow on most devices.
    """
    size = images.shape[1]
    most = round(size * share)
    shifts = jax.random.randint(key, (2, len(images), 1, 1), -most, most + 1)
    pixels = jnp.arange(size)
    rows, columns = (
        (pixels[:, None] - pixels[None, :] == shift).astype(images.dtype)
        for shift in shifts
    )
    return jnp.einsum("byi,bijc,bxj->byxc", rows, images, columns)


def random_cutout(images: jax.Array, key: jax.Array, share: float = 0.5) -> jax.Array:
    """Fill a square of this share of the side, its centre in the image, with 0."""
    size = images.shape[1]
    side = round(size * share)
    first = jax.random.randint(key, (2, len(images), 1), 0, size + (side % 2 == 0))
    inside = jnp.abs(2 * jnp.arange(size) + 1 - 2 * first - side % 2) < side
    box = inside[0][:, :, None] & inside[1][:, None, :]
    return jnp.where(box[..., None], 0.0, images)
