"""The Frechet distance between two sets of features, as Gaussians (Heusel et al. 2017).

It depends on the number of samples: the fewer, the larger. Compare at equal counts.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """Of a set of features.

    Attributes:
      mean: float64 (D,).
      covariance: float64 (D, D), of the sample: divided by count - 1.
      count: of features, at least 2.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int


def gather_statistics(batches: Iterable[np.ndarray]) -> Statistics:
    """Accumulate batches of features, each (n, D), in float64.

    Raises:
      ValueError: fewer than two features in all, or one that is not finite.
    """
    count, mean, scatter = 0, 0.0, 0.0
    for batch in batches:
        rows = np.asarray(batch, np.float64)
        if not len(rows):
            continue
        if not np.isfinite(rows).all():
            raise ValueError("features that are not finite have no statistics")
        batch_mean = rows.mean(axis=0)
        centred = rows - batch_mean
        # Merging means and scatters keeps the digits that a sum of squares would lose.
        total = count + len(rows)
        shift = batch_mean - mean
        scatter = scatter + centred.T @ centred
        scatter = scatter + np.outer(shift, shift) * (count * len(rows) / total)
        mean = mean + shift * (len(rows) / total)
        count = total
    if count < 2:
        raise ValueError(f"{count} features have no covariance; two are the least")
    return Statistics(mean, scatter / (count - 1), count)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Return |m - n|^2 + tr(A + B - 2 (A B)^(1/2)), in squared units of the features.

    The trace of the square root is the sum of the singular values of A^(1/2) B^(1/2),
    which covariances of any rank have to full precision.

    Raises:
      ValueError: features of different lengths.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"features of lengths {a.mean.size} and {b.mean.size} are not comparable"
        )
    overlap = np.linalg.svd(_root(a.covariance) @ _root(b.covariance), compute_uv=False)
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap.sum()
    return max(0.0, float(np.sum((a.mean - b.mean) ** 2) + spread))


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root; rounding below zero counts as zero."""
    values, vectors = np.linalg.eigh(covariance)
    floor = values.max(initial=0.0) * len(values) * np.finfo(np.float64).eps
    roots = np.sqrt(np.where(values > floor, values, 0.0))
    return (vectors * roots) @ vectors.T
