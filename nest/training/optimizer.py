"""AdamW with the published schedule and weight-decay mask."""

from typing import Any

import jax
import optax


def warmup_cosine(peak: float, warmup_steps: int, num_steps: int) -> optax.Schedule:
    """Linear from 0 to `peak` over the warm-up, then half a cosine to 0 at the end.

    Args:
      peak: learning rate after the warm-up.
      warmup_steps: 0 starts at the peak.
      num_steps: length of the whole schedule, at least `warmup_steps`.
    """
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, peak, warmup_steps),
            optax.cosine_decay_schedule(peak, max(1, num_steps - warmup_steps)),
        ],
        [warmup_steps],
    )


NOT_DECAYED = ("position_embedding", "class_token", "position_bias")


def decay_mask(params: dict) -> dict:
    """Mark with True what weight decay applies to: all but the position embeddings.

    Biases and norms are decayed too, as in the released code. Of the baselines, DeiT's
    class token and Swin's biases of relative positions are left out besides.
    """

    def decayed(path: tuple[Any, ...], _: jax.Array) -> bool:
        return path[-1].key not in NOT_DECAYED

    return jax.tree_util.tree_map_with_path(decayed, params)


def adamw(
    learning_rate: optax.ScalarOrSchedule,
    *,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    clip_norm: float,
) -> optax.GradientTransformation:
    """Build the optimizer.

    Args:
      clip_norm: the gradient is scaled down to this global norm; 0 leaves it.
    """
    steps = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    steps.append(
        optax.adamw(
            learning_rate,
            b1=betas[0],
            b2=betas[1],
            eps=eps,
            weight_decay=weight_decay,
            mask=decay_mask,
        )
    )
    return optax.chain(*steps)
