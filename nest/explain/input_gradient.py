"""Explanations by pixels: how the logit changes with the input."""

import jax
import jax.numpy as jnp

from nest.models.classifier import NesT


def input_gradient(model: NesT, images: jax.Array, classes: jax.Array) -> jax.Array:
    """The gradient's largest magnitude over the colours of each pixel.

    Simonyan et al., Deep Inside Convolutional Networks, 2014.

    Args:
      images: (B, S, S, 3), normalized.
      classes: int (B, K).

    Returns:
      (B, K, S, S), at least 0.
    """
    return jnp.abs(_gradients(model, images, classes)).max(axis=-1)


def input_times_gradient(
    model: NesT, images: jax.Array, classes: jax.Array
) -> jax.Array:
    """Gradient times (normalized) input, summed over the colours of each pixel.

    Shrikumar et al., Not Just a Black Box, 2016.

    Returns:
      Signed (B, K, S, S); arguments as in `input_gradient`.
    """
    return (_gradients(model, images, classes) * images[:, None]).sum(axis=-1)


def _gradients(model: NesT, images: jax.Array, classes: jax.Array) -> jax.Array:
    """(B, K, S, S, 3): one forward pass, a backward pass per class."""
    logits, pullback = jax.vjp(model.__call__, images)
    chosen = jax.nn.one_hot(classes, logits.shape[1], dtype=logits.dtype)
    (gradients,) = jax.vmap(pullback, in_axes=1, out_axes=1)(chosen)
    return gradients
