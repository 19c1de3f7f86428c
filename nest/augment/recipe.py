"""What happens to a uint8 batch on the accelerator, inside the jitted step."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from nest.augment.color_jitter import color_jitter
from nest.augment.erasing import random_erasing
from nest.augment.geometric import random_flip, random_shift
from nest.augment.mixing import mix, smooth_labels
from nest.augment.randaugment import randaugment


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The training recipe in its order (paper, section 4; numbers: the released code).

    Attributes:
      shift: padding of `random_shift`, in pixels; 0 is off.
      flip: mirror half of the images.
      randaugment: arguments of that function, or None.
      color_jitter: arguments of that function, or None.
      mean, std: see `normalize`.
      random_erasing: arguments of that function, or None.
      smoothing: of the labels, [0, 1).
      mix: arguments of that function, or None; the batch must be even then.
    """

    shift: int
    flip: bool
    randaugment: Mapping[str, Any] | None
    color_jitter: Mapping[str, Any] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    random_erasing: Mapping[str, Any] | None
    smoothing: float
    mix: Mapping[str, Any] | None


def augment(
    images: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    recipe: Recipe,
    *,
    num_classes: int,
) -> tuple[jax.Array, jax.Array]:
    """Apply the training recipe to a batch.

    Args:
      images: uint8 (B, H, W, 3).
      labels: int32 (B,).
      key: all randomness; row i of a batch gets the same whatever the device count.

    Returns:
      Images, float32 (B, H, W, 3), normalized, and targets, float32 (B, classes).
    """
    keys = jax.random.split(key, 6)
    images = random_shift(images, keys[0], recipe.shift)
    if recipe.flip:
        images = random_flip(images, keys[1])
    if recipe.randaugment is not None:
        images = randaugment(images, keys[2], **recipe.randaugment)
    images = images.astype(jnp.float32) / 255
    if recipe.color_jitter is not None:
        images = color_jitter(images, keys[3], **recipe.color_jitter)
    images = normalize(images, recipe.mean, recipe.std)
    if recipe.random_erasing is not None:
        images = random_erasing(images, keys[4], **recipe.random_erasing)
    targets = smooth_labels(labels, num_classes, recipe.smoothing)
    if recipe.mix is not None:
        images, targets = mix(images, targets, keys[5], **recipe.mix)
    return images, targets


def normalize(
    images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> jax.Array:
    """Give float32 images (B, H, W, C) in [0, 1] zero mean and unit deviation.

    Args:
      mean, std: per channel.
    """
    return (images - jnp.array(mean)) / jnp.array(std)


def model_input(
    images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> jax.Array:
    """Turn uint8 images (B, H, W, C) into the model's input, without augmentation."""
    return normalize(images.astype(jnp.float32) / 255, mean, std)
