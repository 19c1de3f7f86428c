"""nest.augment.mixing, against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nest.augment import mixing

COUNT, SIDE = 64, 16


def batch() -> tuple[jax.Array, jax.Array]:
    images = jax.random.normal(jax.random.key(1), (COUNT, SIDE, SIDE, 3))
    return images, mixing.smooth_labels(jnp.arange(COUNT) % 10, 10, 0.1)


def test_labels_are_smoothed():
    targets = np.asarray(mixing.smooth_labels(jnp.array([2, 0]), 4, 0.1))
    expected = np.full((2, 4), 0.025)
    expected[0, 2] = expected[1, 0] = 0.925
    np.testing.assert_allclose(targets, expected, rtol=1e-6)


def test_mixup_is_a_weighted_mean_with_the_neighbour():
    images, targets = batch()
    out, mixed = mixing.mixup(images, targets, jax.random.key(0), alpha=0.8)
    weights = 1 - np.asarray(mixing.draw_weights(jax.random.key(0), COUNT, 0.8))
    assert (weights >= 0.5).all() and (weights <= 1).all()
    for i in range(COUNT):
        j = i + 1 if i % 2 == 0 else i - 1
        for x, y in ((images, out), (targets, mixed)):
            expected = weights[i] * np.asarray(x[i]) + (1 - weights[i]) * np.asarray(
                x[j]
            )
            np.testing.assert_allclose(y[i], expected, rtol=1e-5, atol=1e-6)


def test_cutmix_keeps_a_box_and_weighs_the_targets_by_pixels():
    images, targets = batch()
    keys = jax.random.split(jax.random.key(0))
    out, mixed = (
        np.asarray(x) for x in mixing.cutmix(images, targets, *keys, alpha=1.0)
    )
    images, targets = np.asarray(images), np.asarray(targets)
    weights = np.asarray(mixing.draw_weights(keys[0], COUNT, 1.0))
    corners = set()
    for i in range(COUNT):
        j = i + 1 if i % 2 == 0 else i - 1
        own = (out[i] == images[i]).all(axis=-1)
        np.testing.assert_array_equal(out[i][~own], images[j][~own])
        side = int(np.float32(np.sqrt(weights[i])) * SIDE)
        rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
        assert len(rows) == len(columns) == side
        assert own.sum() == side**2
        if side:
            corners.add((rows[0], columns[0]))
        share = side**2 / SIDE**2
        expected = share * targets[i] + (1 - share) * targets[j]
        np.testing.assert_allclose(mixed[i], expected, rtol=1e-5)
    assert len(corners) > 20


def test_weights_have_the_published_distribution():
    for alpha in (0.8, 1.0):
        weights = np.asarray(mixing.draw_weights(jax.random.key(0), 100_000, alpha))
        # P(u ** (1 / alpha) / 2 < w) = (2 w) ** alpha.
        for w in (0.1, 0.25, 0.4):
            assert abs((weights < w).mean() - (2 * w) ** alpha) < 4 * 0.5 / 316


@pytest.mark.parametrize(
    ("mixup_alpha", "cutmix_alpha", "share"),
    [(0.8, 1.0, 0.5), (0.0, 1.0, 1.0), (0.8, 0.0, 0.0), (0.8, 1.0, 0.2)],
)
def test_a_batch_is_mixed_in_one_way(mixup_alpha, cutmix_alpha, share):
    images, targets = batch()

    @jax.jit
    def cut(key: jax.Array) -> jax.Array:
        out, _ = mixing.mix(
            images,
            targets,
            key,
            mixup_alpha=mixup_alpha,
            cutmix_alpha=cutmix_alpha,
            cutmix_share=0.2 if share == 0.2 else 0.5,
        )
        pasted = (out == images) | (out == mixing._neighbours(images))
        return pasted.all()

    seen = np.array([cut(key) for key in jax.random.split(jax.random.key(0), 400)])
    # Four standard deviations of 400 draws.
    assert abs(seen.mean() - share) <= 4 * np.sqrt(share * (1 - share) / 400)


def test_both_off_leaves_the_batch():
    images, targets = batch()
    out = mixing.mix(
        images,
        targets,
        jax.random.key(0),
        mixup_alpha=0.0,
        cutmix_alpha=0.0,
        cutmix_share=0.5,
    )
    assert out[0] is images and out[1] is targets
