"""Losses of a GAN: non-saturating (arXiv 1406.2661) and hinge (1705.02894), R1."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

LOSSES = ("non_saturating", "hinge")


def discriminator_loss(kind: str, real: jax.Array, fake: jax.Array) -> jax.Array:
    """Return the mean loss of logits (B,) of real and of generated images."""
    if kind == "hinge":
        return (jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)).mean()
    return (jax.nn.softplus(-real) + jax.nn.softplus(fake)).mean()


def generator_loss(kind: str, fake: jax.Array) -> jax.Array:
    """Return the mean loss of logits (B,) of generated images."""
    return -fake.mean() if kind == "hinge" else jax.nn.softplus(-fake).mean()


def r1_penalty(
    discriminate: Callable[[jax.Array], jax.Array], images: jax.Array
) -> jax.Array:
    """Return the mean squared norm of the logit's gradient with respect to each image.

    R1 of arXiv 1801.04406, without its factor of gamma / 2.

    Args:
      discriminate: images (B, H, W, C) to logits (B,).
    """
    gradients = jax.grad(lambda images: discriminate(images).sum())(images)
    return jnp.square(gradients.astype(jnp.float32)).sum(axis=(1, 2, 3)).mean()


def diversity(fake: jax.Array, real: jax.Array) -> jax.Array:
    """Return the deviation of generated pixels over the batch / that of real ones.

    About 1 when the images differ as much as real ones do; 0 when all are the same.

    Args:
      fake, real: (B, H, W, C).
    """
    return jnp.sqrt(fake.var(axis=0).sum() / (real.var(axis=0).sum() + 1e-12))
