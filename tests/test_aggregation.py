"""nest.models.aggregation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from nest.models.aggregation import AGGREGATIONS, Aggregation, avg_pool, max_pool

WINDOW, STRIDES = (1, 3, 3, 1), (1, 2, 2, 1)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plain_max_pool(x: jax.Array) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, WINDOW, STRIDES, "SAME")


def test_max_pool_is_reduce_window():
    x = jnp.asarray(random(2, 8, 6, 3))
    np.testing.assert_array_equal(max_pool(x), plain_max_pool(x))


def test_max_pool_gradient_is_that_of_reduce_window():
    x, cotangent = jnp.asarray(random(2, 8, 6, 3)), jnp.asarray(random(2, 4, 3, 3))
    ours = jax.vjp(max_pool, x)[1](cotangent)[0]
    truth = jax.vjp(plain_max_pool, x)[1](cotangent)[0]
    np.testing.assert_allclose(ours, truth, atol=1e-6)


def test_avg_pool_does_not_count_the_padding():
    x = jnp.asarray(random(2, 8, 6, 3))
    total = lax.reduce_window(x, 0.0, lax.add, WINDOW, STRIDES, "SAME")
    counts = lax.reduce_window(jnp.ones_like(x), 0.0, lax.add, WINDOW, STRIDES, "SAME")
    np.testing.assert_allclose(avg_pool(x), total / counts, atol=1e-6)


@pytest.mark.parametrize("kind", AGGREGATIONS)
def test_every_kind_halves_the_plane_and_sets_the_width(kind: str):
    module = Aggregation(3, 5, kind=kind, block_size=4, rngs=nnx.Rngs(0))
    assert module(jnp.asarray(random(2, 16, 16, 3))).shape == (2, 8, 8, 5)


@pytest.mark.parametrize("kind", AGGREGATIONS)
def test_only_the_image_plane_lets_information_cross_a_block(kind: str):
    module = Aggregation(3, 5, kind=kind, block_size=4, rngs=nnx.Rngs(0))
    x = jnp.asarray(random(1, 8, 8, 3))
    # What the upper left block of 4x4 becomes, seen from the rest of the image.
    gradient = jax.grad(lambda x: module(x)[0, :2, :2].sum())(x)
    outside = np.asarray(gradient[0]).copy()
    outside[:4, :4] = 0
    crosses = bool(np.abs(outside).max() > 0)
    assert crosses == (kind not in ("block_plane", "patch_merging"))


def test_patch_merging_reads_each_square_once():
    module = Aggregation(1, 2, kind="patch_merging", block_size=2, rngs=nnx.Rngs(0))
    x = jnp.asarray(random(1, 4, 4, 1))
    squares = np.asarray(x).reshape(1, 2, 2, 2, 2, 1).transpose(0, 1, 3, 4, 2, 5)
    squares = squares.reshape(1, 2, 2, 4)  # column by column
    normed = squares - squares.mean(axis=-1, keepdims=True)
    normed /= np.sqrt((normed**2).mean(axis=-1, keepdims=True) + 1e-6)
    expected = normed @ np.asarray(module.linear.kernel[...])
    np.testing.assert_allclose(module(x), expected, atol=1e-5)


def test_block_plane_needs_an_even_block():
    with pytest.raises(ValueError, match="a side of 7 tokens is odd"):
        Aggregation(3, 5, kind="block_plane", block_size=7, rngs=nnx.Rngs(0))
