"""What happens to a uint8 batch on the accelerator, inside the jitted step."""

import jax
import jax.numpy as jnp


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


def normalize(
    images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> jax.Array:
    """Turn uint8 (B, H, W, C) into float32 with zero mean and unit deviation.

    Args:
      mean, std: per channel, of values scaled to [0, 1].
    """
    scaled = images.astype(jnp.float32) / 255
    return (scaled - jnp.array(mean)) / jnp.array(std)


def augment(
    images: jax.Array,
    key: jax.Array,
    *,
    shift: int,
    flip: bool,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> jax.Array:
    """Apply the training recipe to a batch.

    Args:
      images: uint8 (B, H, W, 3).
      key: all randomness; row i of a batch gets the same whatever the device count.
      shift: padding of `random_shift`, in pixels.
      flip: mirror half of the images.

    Returns:
      float32 (B, H, W, 3), normalized.
    """
    shift_key, flip_key = jax.random.split(key)
    images = random_shift(images, shift_key, shift)
    if flip:
        images = random_flip(images, flip_key)
    return normalize(images, mean, std)


def smooth_labels(labels: jax.Array, num_classes: int, smoothing: float) -> jax.Array:
    """Return float32 targets (B, classes): (1 - s) * one-hot + s / classes."""
    one_hot = jax.nn.one_hot(labels, num_classes)
    return (1 - smoothing) * one_hot + smoothing / num_classes
