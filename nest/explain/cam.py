"""Class activation maps: what the channels of a level say, weighted by the class."""

import jax
import jax.numpy as jnp

from nest.explain.gradients import level_gradients
from nest.models.classifier import NesT


def cam(model: NesT, images: jax.Array, classes: jax.Array) -> jax.Array:
    """CAM: the head's weights on the normalized tokens of the top level.

    Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016; the
    paper uses it on NesT to localize. The mean of a map plus the head's bias is the
    logit.

    Args:
      images: (B, S, S, 3), normalized.
      classes: int (B, K).

    Returns:
      Signed (B, K, H, W), one number per token of the top level.
    """
    tokens = model.norm(model.features(images)[-1]).astype(jnp.float32)
    weights = model.head.kernel[...][:, classes]  # (C, B, K)
    return jnp.einsum("bhwc,cbk->bkhw", tokens, weights)


def grad_cam(
    model: NesT, images: jax.Array, classes: jax.Array, *, level: int = -1
) -> jax.Array:
    """Grad-CAM: channels weighted by the mean of their gradient over the plane.

    Selvaraju et al., Grad-CAM, ICCV 2017. The rectifier at its end is left to whoever
    shows the map: this one is signed. Arguments and result as in `cam`.

    Args:
      level: an index into the levels, bottom first; -1 is the top.
    """
    output, gradient = _at_level(model, images, classes, level)
    return jnp.einsum("bhwc,kbc->bkhw", output, gradient.mean(axis=(2, 3)))


def hires_cam(
    model: NesT, images: jax.Array, classes: jax.Array, *, level: int = -2
) -> jax.Array:
    """HiResCAM: each token's own gradient times its activation.

    Draelos and Carin, Use HiResCAM instead of Grad-CAM, 2020. These are the maps that
    GradCAT averages over blocks; at the top see there. Arguments and result as in
    `grad_cam`.
    """
    output, gradient = _at_level(model, images, classes, level)
    return jnp.einsum("bhwc,kbhwc->bkhw", output, gradient)


def _at_level(
    model: NesT, images: jax.Array, classes: jax.Array, level: int
) -> tuple[jax.Array, jax.Array]:
    lowest = range(len(model.levels))[level]
    _, outputs, gradients = level_gradients(model, images, classes, lowest=lowest)
    return outputs[0], gradients[0]
