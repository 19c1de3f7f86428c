"""Random erasing (arXiv 1708.04896): a box of each image becomes noise."""

import jax
import jax.numpy as jnp


def random_erasing(
    images: jax.Array,
    key: jax.Array,
    *,
    probability: float,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> jax.Array:
    """Fill a random box with standard normal noise, a number per pixel and channel.

    Args:
      images: float32 (B, H, W, C), normalized.
      probability: of an image to lose a box.
      area: smallest and largest share of the image, drawn uniformly; what lies outside
        the image is cut off.
      aspect: smallest and largest height / width, drawn log-uniformly.
    """
    count, height, width, _ = images.shape
    whether, area_key, aspect_key, center_key, noise_key = jax.random.split(key, 5)
    share = jax.random.uniform(area_key, (count, 1), minval=area[0], maxval=area[1])
    low, high = jnp.log(jnp.array(aspect))
    ratio = jnp.exp(jax.random.uniform(aspect_key, (count, 1), minval=low, maxval=high))
    center = jax.random.uniform(center_key, (count, 2))

    def covered(side: int, middle: jax.Array, extent: jax.Array) -> jax.Array:
        pixels = jnp.arange(side)
        return jnp.abs(pixels - middle * side) < extent * side / 2

    rows = covered(height, center[:, :1], jnp.sqrt(share * ratio))
    columns = covered(width, center[:, 1:], jnp.sqrt(share / ratio))
    happens = jax.random.bernoulli(whether, probability, (count, 1, 1))
    box = happens & rows[:, :, None] & columns[:, None, :]
    noise = jax.random.normal(noise_key, images.shape, images.dtype)
    return jnp.where(box[..., None], noise, images)
