"""The kernel distance between two sets of features (Binkowski et al. 2018, as in KID).

Unbiased: its expectation does not depend on the counts, and is 0 for two samples of
one distribution, so that single values may be negative.
"""

import numpy as np

ROWS = 1000  # of the kernel matrix at a time


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Estimate the squared maximum mean discrepancy of the kernel (x.y / D + 1)^3.

    Args:
      a, b: features (n, D) and (m, D); all pairs count, there are no random subsets.

    Raises:
      ValueError: fewer than two features in a set.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"{len(a)} and {len(b)} features; two are the least")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    between = _kernel_sum(a, b) / (len(a) * len(b))
    return float(_mean_of_pairs(a) + _mean_of_pairs(b) - 2 * between)


def _mean_of_pairs(x: np.ndarray) -> float:
    """The kernel's mean over pairs of two different members."""
    itself = _kernel(np.sum(x * x, axis=1), x.shape[1]).sum()
    return (_kernel_sum(x, x) - itself) / (len(x) * (len(x) - 1))


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    return sum(
        float(_kernel(a[i : i + ROWS] @ b.T, a.shape[1]).sum())
        for i in range(0, len(a), ROWS)
    )


def _kernel(products: np.ndarray, features: int) -> np.ndarray:
    return (products / features + 1) ** 3
