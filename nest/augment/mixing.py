"""MixUp (arXiv 1710.09412) and CutMix (arXiv 1905.04899), and smoothed labels.

Each image is mixed with its neighbour: rows 0 and 1 of a batch, 2 and 3, and so on. The
data is shuffled, so a neighbour is as random as any other partner, and a pair lies on
one device whatever their number.
"""

import jax
import jax.numpy as jnp


def smooth_labels(labels: jax.Array, num_classes: int, smoothing: float) -> jax.Array:
    """Return float32 targets (B, classes): (1 - s) * one-hot + s / classes."""
    one_hot = jax.nn.one_hot(labels, num_classes)
    return (1 - smoothing) * one_hot + smoothing / num_classes


def mix(
    images: jax.Array,
    targets: jax.Array,
    key: jax.Array,
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
    cutmix_share: float,
) -> tuple[jax.Array, jax.Array]:
    """Apply MixUp or CutMix to a batch, one choice for all of it.

    Args:
      images: float32 (B, H, W, C), B even.
      targets: float32 (B, classes).
      mixup_alpha, cutmix_alpha: of the weights' distribution, see `draw_weights`; 0
        turns one off.
      cutmix_share: probability of CutMix where both are on.
    """
    which, weight_key, box_key = jax.random.split(key, 3)
    if mixup_alpha == 0 and cutmix_alpha == 0:
        return images, targets
    if cutmix_alpha == 0:
        return mixup(images, targets, weight_key, alpha=mixup_alpha)
    if mixup_alpha == 0:
        return cutmix(images, targets, weight_key, box_key, alpha=cutmix_alpha)
    return jax.lax.cond(
        jax.random.bernoulli(which, cutmix_share),
        lambda: cutmix(images, targets, weight_key, box_key, alpha=cutmix_alpha),
        lambda: mixup(images, targets, weight_key, alpha=mixup_alpha),
    )


def draw_weights(key: jax.Array, count: int, alpha: float) -> jax.Array:
    """Draw weights in [0, 1/2]: u ** (1 / alpha) / 2 with uniform u, float32 (count,).

    The released code has this in the place of a Beta(alpha, alpha) distribution.
    """
    return jax.random.uniform(key, (count,)) ** (1 / alpha) / 2


def mixup(
    images: jax.Array, targets: jax.Array, key: jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """Average each image and target with its neighbour's, itself the heavier one."""
    weights = 1 - draw_weights(key, len(images), alpha)
    return tuple(
        _average(x, _neighbours(x), weights.reshape(-1, *(1,) * (x.ndim - 1)))
        for x in (images, targets)
    )


def cutmix(
    images: jax.Array,
    targets: jax.Array,
    weight_key: jax.Array,
    box_key: jax.Array,
    *,
    alpha: float,
) -> tuple[jax.Array, jax.Array]:
    """Keep a box of each image, at a random place, and take the rest of its neighbour.

    The targets are averaged by the numbers of pixels.
    """
    # Differs from the paper: the released code weighs the targets by the drawn weight,
    # which the box, whole pixels only, falls short of.
    count, height, width, _ = images.shape
    side = jnp.sqrt(draw_weights(weight_key, count, alpha))
    place = jax.random.uniform(box_key, (count, 2))

    def covered(length: int, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        extent = jnp.floor(side * length)
        start = jnp.floor(place * (length - extent + 1))[:, None]
        pixels = jnp.arange(length)
        return (start <= pixels) & (pixels < start + extent[:, None]), extent / length

    rows, row_share = covered(height, place[:, 0])
    columns, column_share = covered(width, place[:, 1])
    box = rows[:, :, None, None] & columns[:, None, :, None]
    weights = (row_share * column_share)[:, None]
    return (
        jnp.where(box, images, _neighbours(images)),
        _average(targets, _neighbours(targets), weights),
    )


def _neighbours(x: jax.Array) -> jax.Array:
    """Exchange the rows 2i and 2i + 1."""
    return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


def _average(x: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
    return weights * x + (1 - weights) * y
