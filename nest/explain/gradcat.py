"""GradCAT: explain a decision by walking down the tree of blocks (paper, section 4).

Level l has a map h_l = sum over channels of A_l * dY/dA_l, where A_l is its output and
Y a logit. A block of level l covers the 2x2 blocks of level l - 1 that were merged into
it, and the mean of h_l over the quarter that a block became is that block's value. The
path starts at the top block and goes on to the child of the largest value.

At the top A is taken behind the head's LayerNorm, where h is CAM divided by the number
of tokens. Before it, h is nothing but rounding: a LayerNorm does not change when its
input is scaled, so its gradient has no part along the input.
"""

import dataclasses

import jax
import jax.numpy as jnp

from nest.explain.gradients import Maps, level_gradients
from nest.models.classifier import NesT


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tree:
    """The explanation of B images by K classes each, over L levels, bottom first.

    Attributes:
      logits: (B, classes).
      maps: per level h_l, signed (B, K, H, W), one number per token.
      values: per level the signed value of each block, (B, K, side, side); the side is
        1 at the top and doubles downwards. The top block's is the mean of its h.
      path: int32 (B, K, L, 2), row and column of the chosen block of each level.
      paths: int32 (B, K, P, L, 2), the best paths a beam of width P finds, best first.
      scores: (B, K, P), of those paths: see `search`.
    """

    logits: jax.Array
    maps: Maps
    values: Maps
    path: jax.Array
    paths: jax.Array
    scores: jax.Array


def gradcat(
    model: NesT,
    images: jax.Array,
    classes: jax.Array,
    *,
    sign: int = 1,
    normalized_top: bool = True,
    width: int = 1,
) -> Tree:
    """Explain images by classes: one forward pass, one backward pass per class.

    Args:
      images: (B, S, S, 3), normalized.
      classes: int (B, K).
      sign: 1, or -1 as in the paper's Algorithm 1, which then follows what speaks
        against the class.
      normalized_top: take the top level behind the head's LayerNorm; False takes it
        before, where only the LayerNorm's epsilon keeps the map from being 0.
      width: P, how many paths the beam keeps; no more are returned than there are
        blocks at the bottom.

    Raises:
      ValueError: a model with one level, which has no tree.
    """
    # Differs from the paper: its sign is -1, and it does not say which side of the
    # LayerNorm the top level is taken from. The README has the figures of all four.
    check_tree(model)
    logits, outputs, gradients = level_gradients(model, images, classes)
    maps = [
        sign * jnp.einsum("bhwc,kbhwc->bkhw", output, gradient)
        for output, gradient in zip(outputs, gradients, strict=True)
    ]
    del maps[-2 if normalized_top else -1]
    maps = tuple(maps)
    values = block_values(maps)
    path, _ = search(values, width=1)
    paths, scores = search(values, width=width)
    return Tree(logits, maps, values, path[:, :, 0], paths, scores)


def check_tree(model: NesT) -> None:
    """Raise ValueError for a model without a tree to walk down."""
    if len(model.levels) < 2:
        raise ValueError(
            "this model has one level, so there is no tree to walk down; use a model "
            "with several, or another method such as cam"
        )


def block_values(maps: Maps) -> Maps:
    """Average each level's map over its children: the value of every block.

    Args:
      maps: per level (B, K, H, W), bottom first; the bottom one has no children and is
        not used.

    Returns:
      Per level (B, K, side, side).
    """
    levels = len(maps)
    values = []
    for i in range(levels):
        source = maps[min(i + 1, levels - 1)]
        values.append(region_means(source, 2 ** (levels - 1 - i)))
    return tuple(values)


def region_means(maps: jax.Array, side: int) -> jax.Array:
    """Average (..., H, W) over a grid of side x side regions.

    Tokens that a border halves, as in blocks with an odd side, count half to both.
    """
    height, width = maps.shape[-2:]
    if height % side or width % side:
        maps = maps.repeat(2, axis=-2).repeat(2, axis=-1)
        height, width = maps.shape[-2:]
    shape = (*maps.shape[:-2], side, height // side, side, width // side)
    return maps.reshape(shape).mean(axis=(-3, -1))


def search(values: Maps, *, width: int) -> tuple[jax.Array, jax.Array]:
    """Search the tree for its best paths, keeping `width` at each level.

    A path's score is the sum of its blocks' values below the top, each divided by the
    largest magnitude on its level, so that no level counts for more by its unit alone.
    Of equal paths the first, in row-major order, is taken. A width of 1 takes the child
    of the largest value each time, as the paper does.

    Args:
      values: per level (B, K, side, side), bottom first.

    Returns:
      int32 (B, K, P, L, 2), row and column per level, bottom first; scores (B, K, P),
      descending. P is `width`, or the number of bottom blocks if that is less.
    """
    lead = values[0].shape[:2]
    path = jnp.zeros((*lead, 1, 1, 2), jnp.int32)
    scores = jnp.zeros((*lead, 1))
    quarters = jnp.array([(0, 0), (0, 1), (1, 0), (1, 1)], jnp.int32)
    for level in reversed(values[:-1]):
        largest = jnp.abs(level).max(axis=(-2, -1), keepdims=True)
        level = level / jnp.where(largest > 0, largest, 1)
        beams = path.shape[2]
        children = 2 * path[:, :, :, None, 0] + quarters  # (B, K, P, 4, 2)
        side = level.shape[-1]
        flat = children[..., 0] * side + children[..., 1]
        gains = jnp.take_along_axis(
            level.reshape(*lead, 1, -1), flat.reshape(*lead, 1, -1), axis=-1
        )
        totals = (scores[..., None] + gains.reshape(flat.shape)).reshape(*lead, -1)
        scores, best = jax.lax.top_k(totals, min(width, totals.shape[-1]))
        above = jnp.take_along_axis(path, best[..., None, None] // 4, axis=2)
        chosen = jnp.take_along_axis(
            children.reshape(*lead, 4 * beams, 2), best[..., None], axis=2
        )
        path = jnp.concatenate([chosen[..., None, :], above], axis=3)
    return path, scores


def block_box(
    image_size: int, side: int, row: int, column: int
) -> tuple[int, int, int, int]:
    """Return a block's box in pixels: left, top, right, bottom; the last two exclusive.

    Args:
      side: blocks along one side on its level.
    """
    step = image_size // side
    return column * step, row * step, (column + 1) * step, (row + 1) * step


def order_map(values: Maps) -> jax.Array:
    """Order the bottom blocks as the walk down the tree would visit them.

    The best child of the top block comes first with all its blocks, in it the best of
    its children, and so on: a heat map that says what the choices say and no more.

    Args:
      values: per level (B, K, side, side), bottom first.

    Returns:
      (B, K, side, side) of the bottom level, from 0 (last) to 1 (first).
    """
    total = jnp.zeros_like(values[-1])
    for level in reversed(values[:-1]):
        total = 4 * total.repeat(2, axis=-2).repeat(2, axis=-1)
        batch, classes, side, _ = level.shape
        squares = level.reshape(batch, classes, side // 2, 2, side // 2, 2)
        squares = squares.transpose(0, 1, 2, 4, 3, 5).reshape(
            batch, classes, side // 2, side // 2, 4
        )
        # Of equal children the first is the better, as in `search`.
        order = jnp.argsort(-squares, axis=-1, stable=True)
        rank = 3 - jnp.argsort(order, axis=-1)
        rank = rank.reshape(batch, classes, side // 2, side // 2, 2, 2)
        rank = rank.transpose(0, 1, 2, 4, 3, 5).reshape(batch, classes, side, side)
        total = total + rank
    return total / (total.shape[-1] ** 2 - 1)
