"""nest.models.layers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nest.models import layers


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_blockify_cuts_in_row_major_order():
    rows, columns = np.indices((4, 4))
    plane = np.stack([rows, columns], axis=-1)[None]
    blocks = layers.blockify(jnp.asarray(plane), 2)
    assert blocks.shape == (1, 4, 4, 2)
    # The second block is the upper right one; its third token the lower left of it.
    np.testing.assert_array_equal(blocks[0, 1, 2], [1, 2])


def test_unblockify_is_the_inverse():
    plane = random(2, 12, 12, 3)
    blocks = layers.blockify(jnp.asarray(plane), 3)
    np.testing.assert_array_equal(layers.unblockify(blocks), plane)


@pytest.mark.parametrize("attention", layers.ATTENTION)
def test_nothing_crosses_a_block(attention: str):
    layer = layers.TransformerLayer(8, 2, attention, rngs=nnx.Rngs(0))
    x = jnp.asarray(random(1, 4, 9, 8))
    gradient = jax.grad(lambda x: layer(x)[0, 2].sum())(x)
    others = np.delete(np.asarray(gradient), 2, axis=1)
    np.testing.assert_array_equal(others, 0)
    assert np.abs(gradient[0, 2]).min() > 0


def test_attend_is_softmax_attention():
    query, key, value = (random(2, 3, 5, 4, seed=i) for i in range(3))
    logits = query @ key.swapaxes(-2, -1) / 2
    weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    # float32 rounding of sums of 5 terms near 1.
    np.testing.assert_allclose(
        layers.attend(query, key, value), weights @ value, atol=2e-6
    )


def test_attend_gradient_is_that_of_softmax_attention():
    query, key, value, cotangent = (random(2, 3, 5, 4, seed=i) for i in range(4))

    def plain(query, key, value):
        return jax.nn.softmax(query @ key.swapaxes(-2, -1) / 2) @ value

    ours = jax.vjp(layers.attend, query, key, value)[1](cotangent)
    truth = jax.vjp(plain, query, key, value)[1](cotangent)
    for mine, theirs in zip(ours, truth, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-6)


def test_attend_survives_large_logits():
    query = key = jnp.full((1, 3, 4), 100.0)
    value = jnp.asarray(random(1, 3, 4))
    expected = np.broadcast_to(value.mean(axis=1, keepdims=True), value.shape)
    np.testing.assert_allclose(layers.attend(query, key, value), expected, rtol=1e-5)


def test_multi_query_shares_one_key_and_value_head():
    shared = layers.Attention(12, 3, "multi_query", rngs=nnx.Rngs(0))
    full = layers.Attention(12, 3, "multi_head", rngs=nnx.Rngs(1))
    assert shared.qkv.kernel.shape == (12, 12 + 2 * 4)
    # Repeating the shared key and value for each head gives multi-head attention.
    for name in ("kernel", "bias"):
        packed = np.asarray(getattr(shared.qkv, name)[...])
        query, key, value = np.split(packed, [12, 16], axis=-1)
        repeated = [query, *[key] * 3, *[value] * 3]
        getattr(full.qkv, name)[...] = jnp.concatenate(repeated, axis=-1)
    full.out.kernel[...] = shared.out.kernel[...]
    x = jnp.asarray(random(2, 4, 9, 12))
    np.testing.assert_allclose(full(x), shared(x), atol=1e-7)


def test_linear_is_the_plain_contraction():
    linear = layers.Linear(5, 7, rngs=nnx.Rngs(0))
    linear.bias[...] = jnp.arange(7.0)
    x = random(2, 3, 4, 5)
    expected = x @ np.asarray(linear.kernel[...]) + np.arange(7.0)
    np.testing.assert_allclose(linear(x), expected, rtol=1e-6)


def test_initial_kernels_are_cut_at_two_sigma():
    kernel = np.asarray(layers.Linear(200, 200, rngs=nnx.Rngs(0)).kernel[...])
    assert np.abs(kernel).max() <= 0.04
    # A normal cut at 2 sigma has 0.8796 of its deviation.
    assert kernel.std() == pytest.approx(0.02 * 0.8796, rel=0.02)


def test_gelu_has_both_forms():
    x = np.linspace(-4, 4, 81)
    erf = np.array([math.erf(value / math.sqrt(2)) for value in x])
    tanh = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    for form, inside in (("exact", erf), ("tanh", tanh)):
        ours = layers.gelu(jnp.asarray(x, jnp.float32), form)
        # float32 rounding of values up to 4.
        np.testing.assert_allclose(ours, x * (1 + inside) / 2, atol=1e-6)


@pytest.mark.parametrize(("form", "inside"), [("tanh", "tanh"), ("exact", "erfc")])
def test_gelu_is_computed_again_in_the_backward_pass(form: str, inside: str):
    def loss(x: jax.Array) -> jax.Array:
        return layers.gelu(x, form).sum()

    jaxpr = str(jax.make_jaxpr(jax.grad(loss))(jnp.ones(3)))
    assert jaxpr.count(f"= {inside}") == 2


def test_drop_path_drops_whole_examples_and_keeps_the_mean():
    x = jnp.ones((20_000, 2, 3))
    dropped = np.asarray(layers.drop_path(x, 0.2, jax.random.key(0)))
    per_example = dropped.reshape(len(x), -1)
    assert (per_example == per_example[:, :1]).all()
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.8)}
    # The mean of 20,000 draws has a deviation of 0.0035.
    assert dropped.mean() == pytest.approx(1, abs=0.015)


def test_the_two_branches_drop_independently():
    layer = layers.TransformerLayer(4, 1, "multi_head", drop_path=0.5, rngs=nnx.Rngs(0))
    layer.attention.out.bias[...] = jnp.full(4, 1.0)
    layer.mlp.contract.bias[...] = jnp.full(4, 100.0)
    for part in (layer.attention.out, layer.mlp.contract):
        part.kernel[...] = jnp.zeros_like(part.kernel[...])
    out = layer(jnp.zeros((400, 1, 1, 4)), jax.random.key(0))
    values, counts = np.unique(np.asarray(out[:, 0, 0, 0]), return_counts=True)
    np.testing.assert_array_equal(values, [0, 2, 200, 202])
    assert counts.min() > 60  # of 100 expected, deviation 9


def test_without_a_key_nothing_drops():
    layer = layers.TransformerLayer(4, 1, "multi_head", drop_path=0.9, rngs=nnx.Rngs(0))
    x = jnp.asarray(random(3, 1, 4, 4))
    layer_without = layers.TransformerLayer(4, 1, "multi_head", rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(layer(x), layer_without(x, jax.random.key(0)))
