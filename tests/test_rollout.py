"""nest.explain.rollout."""

import jax
import jax.numpy as jnp
import numpy as np
from conftest import jitted
from flax import nnx

from nest.explain.rollout import rollout
from nest.models.classifier import NesT
from nest.models.layers import unblockify

CLASSES = jnp.array([[0, 3], [1, 1], [4, 2]])


def test_the_shares_are_kept_and_know_no_class(small_model, small_images):
    maps = jitted(rollout, small_model, small_images, CLASSES)
    assert maps.shape == (3, 2, 16, 16) and (maps >= 0).all()
    np.testing.assert_allclose(maps.sum(axis=(2, 3)), 1, rtol=1e-5)
    np.testing.assert_array_equal(maps[:, 0], maps[:, 1])


def attention(model: NesT, images: jax.Array) -> list[list[jax.Array]]:
    """The attention of every layer of every level, (B, G, H, N, N)."""
    weights, x = [], model.embed(images)
    for level in model.levels:
        tokens = level.enter(x)
        weights.append([])
        for layer in level.layers:
            weights[-1].append(layer.attention.weights(layer.attention_norm(tokens)))
            tokens = layer(tokens)
        x = unblockify(tokens)
    return weights


def test_it_is_the_product_of_the_layers_on_the_whole_plane(small_model, small_images):
    """The same with one matrix of all tokens per step, written out in numpy."""
    whole = np.eye(256)  # what each token of the level so far takes from each pixel
    for i, layers in enumerate(jitted(attention, small_model, small_images[:1])):
        side = 16 >> i
        place = np.arange(side * side).reshape(side, side)
        if i:
            merge = np.zeros((side * side, 4 * side * side))
            for row, column in np.ndindex(2 * side, 2 * side):
                merge[place[row // 2, column // 2], row * 2 * side + column] = 1 / 4
            whole = merge @ whole
        for weights in layers:
            step = np.zeros((side * side, side * side))
            for g in range(weights.shape[1]):
                row, column = divmod(g, side // 4)
                inside = place[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                mean = np.asarray(weights[0, g]).mean(axis=0)
                step[np.ix_(inside.ravel(), inside.ravel())] = (mean + np.eye(16)) / 2
            whole = step @ whole
    expected = whole.mean(axis=0).reshape(16, 16)
    found = jitted(rollout, small_model, small_images[:1], CLASSES[:1])[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_attention_without_preference_spreads_evenly(small_model, small_images):
    model = nnx.clone(small_model)
    for level in model.levels:
        for layer in level.layers:
            kernel = layer.attention.qkv.kernel
            kernel[...] = jnp.zeros_like(kernel[...])
    maps = jitted(rollout, model, small_images, CLASSES)
    np.testing.assert_allclose(maps, 1 / 256, rtol=1e-5)
