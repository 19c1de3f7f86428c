"""Precision and recall of samples in a feature space (Kynkaanniemi et al. 2019).

A set's manifold is the union of balls around its members that reach to the k-th
nearest other member. Both figures depend on the counts: compare at equal ones.
"""

from collections.abc import Iterator

import numpy as np

ROWS = 1000  # of the distance matrix at a time


def precision_recall(
    samples: np.ndarray, real: np.ndarray, *, neighbours: int = 3
) -> tuple[float, float]:
    """Measure how many samples look real, and how much of the real they cover.

    Args:
      samples, real: features (n, D) and (m, D).
      neighbours: k.

    Returns:
      Precision, the share of samples inside the real manifold, and recall, the share
      of real features inside the samples' manifold.

    Raises:
      ValueError: no more than k features in a set.
    """
    if min(len(samples), len(real)) <= neighbours:
        raise ValueError(
            f"{len(samples)} samples and {len(real)} real features are too few for "
            f"{neighbours} neighbours"
        )
    origin = real.mean(axis=0, dtype=np.float64)
    samples, real = samples - origin, real - origin
    return _inside(samples, real, neighbours), _inside(real, samples, neighbours)


def share_of_near_copies(samples: np.ndarray, real: np.ndarray) -> float:
    """Measure how many samples crowd a real feature.

    Args:
      samples, real: features (n, D) and (m, D).

    Returns:
      The share of samples that are nearer to their nearest real feature than any other
      real feature is to it: 1 for copies; for other real images some 0.4 to 0.6, so
      measure those too.

    Raises:
      ValueError: fewer than two real features.
    """
    if len(real) < 2:
        raise ValueError(f"{len(real)} real features have no neighbours")
    origin = real.mean(axis=0, dtype=np.float64)
    samples, real = samples - origin, real - origin
    radii = _radii(real, 1)
    nearer = 0
    for distances in _squared_distances(samples, real):
        nearest = distances.argmin(axis=1)
        nearer += int((distances.min(axis=1) < radii[nearest]).sum())
    return nearer / len(samples)


def _inside(points: np.ndarray, members: np.ndarray, neighbours: int) -> float:
    """The share of points inside the manifold of the members."""
    radii = _radii(members, neighbours)
    hits = sum(
        int((distances <= radii).any(axis=1).sum())
        for distances in _squared_distances(points, members)
    )
    return hits / len(points)


def _radii(members: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared distance from each member to its k-th nearest other one."""
    return np.concatenate(
        [
            # The nearest of all is the member itself.
            np.partition(distances, neighbours, axis=1)[:, neighbours]
            for distances in _squared_distances(members, members)
        ]
    )


def _squared_distances(points: np.ndarray, members: np.ndarray) -> Iterator[np.ndarray]:
    norms = np.sum(members**2, axis=1)
    for start in range(0, len(points), ROWS):
        rows = points[start : start + ROWS]
        squared = np.sum(rows**2, axis=1)[:, None] + norms - 2 * rows @ members.T
        yield np.maximum(squared, 0.0)
