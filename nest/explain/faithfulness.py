"""Does an explanation say what the model does? Four measures, and their intervals."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from flax import nnx

from nest.augment.recipe import model_input
from nest.explain.gradcat import region_means


def bootstrap(
    scores: np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Return the mean of scores and its 95 % percentile bootstrap interval.

    Args:
      scores: (n,), one per independent example.
    """
    rng = np.random.default_rng(seed)
    scores = np.asarray(scores, np.float64)
    means = [
        scores[rng.integers(len(scores), size=len(scores))].mean()
        for _ in range(resamples)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(scores.mean()), float(low), float(high)


def mosaics(
    tiles: np.ndarray, labels: np.ndarray, *, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lay tiles of four different classes in a 2x2 grid, `count` times.

    The grid pointing game: Boehle et al., Convolutional Dynamic Alignment Networks,
    CVPR 2021, with 2x2 in place of 3x3.

    Args:
      tiles: uint8 (n, S, S, 3).
      labels: int (n,), of at least four classes.

    Returns:
      uint8 (count, 2 S, 2 S, 3) and the labels of their quarters, int (count, 4), in
      row-major order.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    images, chosen = [], []
    for _ in range(count):
        classes = rng.choice(len(members), 4, replace=False)
        quarters = np.array([rng.choice(members[k]) for k in classes])
        top, bottom = (
            np.concatenate(tiles[row], axis=1) for row in np.split(quarters, 2)
        )
        images.append(np.concatenate([top, bottom]))
        chosen.append(labels[quarters])
    return np.stack(images), np.stack(chosen)


def pointed_quarters(maps: np.ndarray) -> np.ndarray:
    """Return the quarter (0-3, row-major) with the largest mean of maps (..., H, W)."""
    means = np.asarray(region_means(jnp.asarray(maps), 2))
    return means.reshape(*means.shape[:-2], 4).argmax(axis=-1)


def point_in_box(maps: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Tell whether the largest value lies in the box (the pointing game).

    Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016. Where
    several pixels are the largest, it is the share of them inside.

    Args:
      maps: (n, S, S), at the size of the image.
      boxes: int (n, 4): left, top, right, bottom in pixels, the last two exclusive.

    Returns:
      (n,) of [0, 1].
    """
    largest = maps == maps.max(axis=(1, 2), keepdims=True)
    y, x = np.mgrid[: maps.shape[1], : maps.shape[2]]
    left, top, right, bottom = (boxes[:, i, None, None] for i in range(4))
    inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    return (largest & inside).sum(axis=(1, 2)) / largest.sum(axis=(1, 2))


def pixel_ranks(maps: jax.Array) -> jax.Array:
    """Rank the pixels of maps (B, S, S), 0 the largest; ties in a fixed order."""
    flat = maps.reshape(maps.shape[0], -1)
    mixed = jax.random.permutation(jax.random.key(0), flat.shape[1])
    order = mixed[jnp.argsort(-flat[:, mixed], axis=1, stable=True)]
    return jnp.argsort(order, axis=1).reshape(maps.shape)


def make_curves(
    graphdef: nnx.GraphDef, *, mean: tuple, std: tuple, steps: int
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Build the deletion and insertion curves (Petsiuk et al., RISE, BMVC 2018).

    Args:
      mean, std: see `nest.augment.recipe.normalize`.
      steps: parts in which the pixels are changed.

    Returns:
      A jitted function of params, images uint8 (B, S, S, 3), what is put in the place
      of deleted pixels, of the same shape, the classes int (B,) and maps (B, S, S). It
      returns the probability of the class while the most important pixels are deleted
      first, and while they are inserted first, both (B, steps + 1).
    """

    def curves(
        params: dict,
        images: jax.Array,
        fill: jax.Array,
        classes: jax.Array,
        maps: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graphdef, params)
        ranks = pixel_ranks(maps)[..., None]

        def probability(images: jax.Array) -> jax.Array:
            logits = model(model_input(images, mean, std))
            chosen = jax.nn.softmax(logits)
            return jnp.take_along_axis(chosen, classes[:, None], axis=1)[:, 0]

        def at(share: jax.Array) -> tuple[jax.Array, jax.Array]:
            changed = ranks < share * maps.shape[1] * maps.shape[2]
            deleted = jnp.where(changed, fill, images)
            inserted = jnp.where(changed, images, fill)
            return probability(deleted), probability(inserted)

        shares = jnp.arange(steps + 1) / steps
        deletion, insertion = jax.lax.map(at, shares)  # (steps + 1, B)
        return deletion.T, insertion.T

    return jax.jit(curves)


def area_under(curves: np.ndarray) -> np.ndarray:
    """Return the area (n,) under curves (n, steps + 1) over [0, 1], by trapezoids."""
    return (curves[:, 1:] + curves[:, :-1]).mean(axis=1) / 2


def randomize(params: dict, rng: np.random.Generator, *, levels: int) -> dict:
    """Shuffle the entries of every array of the head and of the levels next to it.

    The sanity check of Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018;
    shuffled rather than drawn anew, which keeps every scale.

    Args:
      params: of a NesT.
      levels: how many, from the top; with all of them the patch embedding, too.
    """
    depth = len(params["levels"])
    names = ["head", "norm"] + ["patch_embedding"] * (levels == depth)
    picked = {name: params[name] for name in names}
    picked["levels"] = {i: params["levels"][i] for i in range(depth - levels, depth)}
    shuffled = jax.tree.map(
        lambda x: rng.permutation(np.ravel(x)).reshape(x.shape), picked
    )
    return params | shuffled | {"levels": params["levels"] | shuffled["levels"]}


def rank_correlations(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation (n,) of maps (n, H, W); 0 where one is constant."""
    ranks = [
        scipy.stats.rankdata(maps.reshape(len(maps), -1), axis=1)
        for maps in (left, right)
    ]
    ranks = [rank - rank.mean(axis=1, keepdims=True) for rank in ranks]
    product = (ranks[0] * ranks[1]).sum(axis=1)
    norm = np.sqrt((ranks[0] ** 2).sum(axis=1) * (ranks[1] ** 2).sum(axis=1))
    return product / np.where(norm > 0, norm, 1)
