"""Weights for a model of another image size or with other classes."""

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nest.errors import UserError
from nest.models.classifier import NesT
from nest.models.layers import blockify, unblockify
from nest.weights.arrays import Report, compare, flatten, parameters, unflatten
from nest.weights.weights import Weights

HEAD = "head."
POSITION = "position_embedding"


def fit(
    weights: Weights,
    model: NesT,
    *,
    new_head: bool | None = None,
    allow: Iterable[str] = (),
) -> tuple[dict[Any, Any], Report]:
    """Bring weights into a model of the same levels, widths and layers.

    Position embeddings are resized where the model cuts its images otherwise.

    Args:
      model: has fresh parameters, which those that are new keep.
      new_head: keep the model's own head; None does so where the number of classes
        differs.
      allow: names, with * for anything, that may be missing in the weights (the
        model's own stay), of another shape (the same) or left over.

    Returns:
      The pure dict of the model's parameters, and what became of each.

    Raises:
      UserError: one line that says what else does not fit.
    """
    arrays, fresh = flatten(weights.params), parameters(model)
    if new_head is None:
        new_head = weights.model["num_classes"] != model.num_classes
    allow = tuple(allow)
    if new_head:
        arrays = {k: x for k, x in arrays.items() if not k.startswith(HEAD)}
        allow += (f"{HEAD}*",)
    resized = {}
    for name, array in arrays.items():
        wanted = fresh[name].shape if name in fresh else array.shape
        if name.endswith(POSITION) and _differ_in_cut(array.shape, wanted):
            resized[name] = (array.shape, wanted)
            arrays[name] = resize_position_embedding(array, *wanted[1:3])
    try:
        report = compare(arrays, fresh, allow)
    except ValueError as error:
        raise UserError(
            f"{weights.source} does not fit the model: {error}; its own model is "
            f"{weights.model}"
        ) from error
    taken = {name: arrays[name] for name in report.loaded}
    kept = {name: np.asarray(fresh[name]) for name in report.new}
    loaded = tuple(name for name in report.loaded if name not in resized)
    return unflatten(taken | kept), Report(loaded, resized, report.new, report.unused)


def resize_position_embedding(
    embedding: np.ndarray, blocks: int, tokens: int
) -> np.ndarray:
    """Interpolate a level's position embedding, bicubically (Keys, a = -0.5).

    With as many blocks as before (224 to 384 pixels: 14x14 to 24x24 tokens in each)
    each block is resized by itself, so that none takes from its neighbours, from which
    attention keeps it apart. With other blocks (32 to 64 pixels in blocks of 4x4) they
    are first put together to the level's image plane, and that is resized and cut
    again. Shrinking is antialiased; the border repeats nothing: weights beyond it are
    left out and the rest scaled to 1.

    Args:
      embedding: (1, G, N, C).
      blocks, tokens: the new G and N, squares.

    Returns:
      float32 (1, blocks, tokens, C).
    """
    _, old_blocks, old_tokens, width = embedding.shape
    x = jnp.asarray(embedding)
    side = math.isqrt(tokens)
    if blocks == old_blocks:
        old_side = math.isqrt(old_tokens)
        x = x.reshape(blocks, old_side, old_side, width)
        x = _resize(x, side).reshape(1, blocks, tokens, width)
    else:
        plane = _resize(unblockify(x), math.isqrt(blocks) * side)
        x = blockify(plane, side)
    return np.asarray(x)


def _resize(x: jax.Array, side: int) -> jax.Array:
    shape = (x.shape[0], side, side, x.shape[-1])
    return jax.image.resize(x, shape, "cubic", antialias=True)


def _differ_in_cut(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    return len(old) == len(new) and old[3] == new[3] and old != new
