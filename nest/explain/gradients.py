"""What the explanations start from: level outputs and the logits' gradients at them.

The pullbacks of the levels are chained by hand, so that one forward and one backward
pass give the gradient at every level, and no gradient of a parameter is computed.
"""

import jax
import jax.numpy as jnp

from nest.models.classifier import NesT

Maps = tuple[jax.Array, ...]


def level_gradients(
    model: NesT, images: jax.Array, classes: jax.Array, *, lowest: int = 0
) -> tuple[jax.Array, Maps, Maps]:
    """Differentiate logits with respect to the output of every level.

    Args:
      images: (B, S, S, 3), normalized.
      classes: int (B, K); row b are the classes to explain image b by. The forward pass
        is shared by them, the backward pass is run for each.
      lowest: the lowest level to go down to; 0 is the bottom.

    Returns:
      Logits (B, classes); per level from `lowest` up its output A, float32
      (B, H, W, C), on the image plane before aggregation, and last the top level's once
      more, behind the head's LayerNorm; and the gradients dY/dA at each of these,
      float32 (K, B, H, W, C).
    """
    x = model.embed(images)
    outputs, pullbacks = [], []
    for i, level in enumerate(model.levels):
        if i > lowest:
            x, pullback = jax.vjp(level, x)
            pullbacks.append(pullback)
        else:
            x = level(x)
        if i >= lowest:
            outputs.append(x.astype(jnp.float32))
    x, pullback = jax.vjp(model.norm, x)
    outputs.append(x.astype(jnp.float32))
    pullbacks.append(pullback)
    logits, pullback = jax.vjp(model.score, x)
    pullbacks.append(pullback)

    def pull(chosen: jax.Array) -> Maps:
        """The gradients of the logits `chosen` (B,), bottom first."""
        gradient = jax.nn.one_hot(chosen, logits.shape[1], dtype=logits.dtype)
        gradients = []
        for pullback in reversed(pullbacks):
            (gradient,) = pullback(gradient)
            gradients.append(gradient.astype(jnp.float32))
        return tuple(reversed(gradients))

    return logits, tuple(outputs), jax.vmap(pull)(classes.T)
