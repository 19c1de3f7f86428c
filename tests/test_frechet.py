"""Distances between sets of features, against closed forms and plain loops."""

import itertools

import numpy as np
import pytest

from nest.generation.frechet import Statistics, frechet_distance, gather_statistics
from nest.generation.kernel_distance import kernel_distance
from nest.generation.precision_recall import precision_recall, share_of_near_copies


def gaussian(mean: np.ndarray, covariance: np.ndarray) -> Statistics:
    return Statistics(np.asarray(mean, float), np.asarray(covariance, float), 100)


def random_covariance(rng: np.random.Generator, size: int, rank: int) -> np.ndarray:
    factor = rng.normal(size=(size, rank))
    return factor @ factor.T


def test_statistics_do_not_depend_on_the_batches():
    rng = np.random.default_rng(0)
    # Far from the origin, where a float32 or a sum of squares loses every digit.
    rows = 1e6 + rng.normal(size=(101, 5)) * [1, 2, 3, 4, 5]
    found = gather_statistics(np.split(rows, [1, 1, 40, 99]))
    assert found.count == 101
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-14)
    # 1e6 squared times the rounding of float64 is 2e-4; merged, it is far below.
    np.testing.assert_allclose(found.covariance, np.cov(rows.T), rtol=1e-8, atol=1e-8)


def test_statistics_of_half_precision_are_taken_in_double():
    rows = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float16)
    found = gather_statistics([rows])
    assert found.covariance.dtype == np.float64
    np.testing.assert_allclose(
        found.covariance, np.cov(rows.T.astype(np.float64)), rtol=1e-12
    )


def test_too_few_or_broken_features_have_no_statistics():
    with pytest.raises(ValueError, match="1 features"):
        gather_statistics([np.ones((1, 3))])
    with pytest.raises(ValueError, match="not finite"):
        gather_statistics([np.array([[1.0], [np.nan]])])


def test_one_dimension():
    # (m - n)^2 + (s - t)^2 for standard deviations s, t.
    found = frechet_distance(gaussian([1], [[4]]), gaussian([-2], [[0.25]]))
    assert found == pytest.approx(9 + 1.5**2, rel=1e-12)


def test_commuting_covariances():
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    s, t = rng.uniform(0, 3, (2, 6))
    s[0] = t[1] = 0
    a = gaussian(np.zeros(6), (axes * s**2) @ axes.T)
    b = gaussian(np.full(6, 0.5), (axes * t**2) @ axes.T)
    expected = 6 * 0.25 + np.sum((s - t) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_covariances_that_do_not_commute():
    # In two dimensions tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det AB)).
    rng = np.random.default_rng(0)
    a, b = random_covariance(rng, 2, 2), random_covariance(rng, 2, 2)
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    expected = np.trace(a) + np.trace(b) - 2 * root
    found = frechet_distance(gaussian([0, 0], a), gaussian([0, 0], b))
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rank", [0, 1, 7, 40])
def test_itself_at_any_rank(rank):
    a = gaussian(
        np.ones(40), 1e4 * random_covariance(np.random.default_rng(0), 40, rank)
    )
    # Rounding of float64 at this scale; a square root of the product's eigenvalues
    # would be off by the square root of it.
    assert frechet_distance(a, a) <= 1e-13 * max(1, np.trace(a.covariance))


def test_lines_that_cross():
    # Rank one each: tr (AB)^(1/2) = |u.v|.
    u, v = np.array([3.0, 0, 0]), np.array([1.0, 2, 0])
    a, b = gaussian(np.zeros(3), np.outer(u, u)), gaussian(np.zeros(3), np.outer(v, v))
    assert frechet_distance(a, b) == pytest.approx(9 + 5 - 2 * 3, rel=1e-12)
    assert frechet_distance(b, a) == pytest.approx(9 + 5 - 2 * 3, rel=1e-12)


def test_features_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="2 and 3"):
        frechet_distance(gaussian([0, 0], np.eye(2)), gaussian([0, 0, 0], np.eye(3)))


def test_kernel_distance_by_loops(monkeypatch):
    monkeypatch.setattr("nest.generation.kernel_distance.ROWS", 3)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 4)), 1 + rng.normal(size=(5, 4))

    def kernel(x, y):
        return (sum(x * y) / 4 + 1) ** 3

    expected = (
        np.mean([kernel(x, y) for x, y in itertools.permutations(a, 2)])
        + np.mean([kernel(x, y) for x, y in itertools.permutations(b, 2)])
        - 2 * np.mean([kernel(x, y) for x, y in itertools.product(a, b)])
    )
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_is_unbiased():
    rng = np.random.default_rng(0)
    found = [kernel_distance(*rng.normal(size=(2, 5, 3))) for _ in range(4000)]
    # Three standard errors; the biased form of it would be beyond thirty.
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_precision_and_recall_by_loops(monkeypatch):
    monkeypatch.setattr("nest.generation.precision_recall.ROWS", 7)
    rng = np.random.default_rng(0)
    samples, real = 1 + rng.normal(size=(20, 3)), rng.normal(size=(30, 3))

    def inside(points, members):
        hits = 0
        for point in points:
            for member in members:
                to_others = sorted(np.linalg.norm(members - member, axis=1))
                if np.linalg.norm(point - member) <= to_others[3]:
                    hits += 1
                    break
        return hits / len(points)

    expected = inside(samples, real), inside(real, samples)
    assert min(expected) > 0 and max(expected) < 1
    assert precision_recall(samples, real, neighbours=3) == expected


def test_precision_without_recall():
    rng = np.random.default_rng(0)
    left = rng.normal((-50, 0), size=(200, 2))
    right = rng.normal((50, 0), size=(200, 2))
    found = precision_recall(left[:100], np.concatenate([left[100:], right]))
    assert found[0] > 0.9 and found[1] < 0.4  # Half of the real modes are missing.
    with pytest.raises(ValueError, match="3 samples"):
        precision_recall(left[:3], right)


def test_near_copies(monkeypatch):
    monkeypatch.setattr("nest.generation.precision_recall.ROWS", 7)
    rng = np.random.default_rng(0)
    real, others = rng.normal(size=(2, 300, 8))
    assert share_of_near_copies(real[:50], real) == 1
    assert share_of_near_copies(real[:50] + 1e-3, real) == 1
    # Whether a point is also its nearest neighbour's nearest: nearly as often as not.
    assert 0.3 < share_of_near_copies(others, real) < 0.65
    assert share_of_near_copies(others + 100, real) < 0.05
    nearest = [np.argsort(np.linalg.norm(real - x, axis=1)) for x in others[:40]]
    expected = np.mean(
        [
            np.linalg.norm(x - real[order[0]])
            < np.sort(np.linalg.norm(real - real[order[0]], axis=1))[1]
            for x, order in zip(others[:40], nearest, strict=True)
        ]
    )
    assert share_of_near_copies(others[:40], real) == expected
