"""nest.explain.methods."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nest.explain.methods import (
    METHODS,
    compile_method,
    enlarge,
    stream,
    to_signed_unit,
    to_unit,
)

CLASSES = np.array([[0, 3], [1, 1], [4, 2]], np.int32)


def test_every_method_has_a_map_per_image_and_class(small_model, small_images):
    def explain_by_all(model, images, classes):
        return {
            name: method(model, images, classes) for name, method in METHODS.items()
        }

    graphdef, params = nnx.split(small_model)
    explained = compile_method(graphdef, explain_by_all)(params, small_images, CLASSES)
    for name, maps in explained.items():
        assert maps.shape[:2] == (3, 2) and maps.shape[2] == maps.shape[3], name
        assert jnp.isfinite(maps).all(), name
        np.testing.assert_allclose(maps[1, 0], maps[1, 1], atol=1e-5, err_msg=name)
        assert bool((maps[0, 0] == maps[0, 1]).all()) == (name == "rollout"), name


def test_a_stream_is_batched_and_in_order():
    batches = []

    def explain(params, images, classes):
        batches.append(len(images))
        return {"mean": images.mean(axis=(1, 2, 3)), "class": classes}

    examples = ((np.full((2, 2, 3), i, np.float32), np.array([i])) for i in range(7))
    found = list(stream(explain, {}, examples, batch_size=3))
    assert [each["mean"] for each in found] == list(range(7))
    assert [each["class"].tolist() for each in found] == [[i] for i in range(7)]
    assert batches == [3, 3, 3]
    assert list(stream(explain, {}, [], batch_size=3)) == []


def test_a_stream_holds_no_more_than_a_batch():
    read = []

    def examples():
        for i in range(100):
            read.append(i)
            yield np.zeros((1, 1, 3), np.float32), np.zeros(1, np.int32)

    explained = stream(lambda p, images, c: images, {}, examples(), batch_size=4)
    next(explained)
    assert len(read) == 4


def test_scaled_maps_have_no_nan():
    maps = jnp.array([[[0.0, -2], [4, 1]], [[3, 3], [3, 3]], [[0, 0], [0, 0]]])
    np.testing.assert_allclose(to_unit(maps)[0], [[1 / 3, 0], [1, 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(to_unit(maps)[1:], 0)
    np.testing.assert_allclose(to_signed_unit(maps)[0], [[0, -0.5], [1, 0.25]])
    np.testing.assert_array_equal(to_signed_unit(maps)[1], 1)
    np.testing.assert_array_equal(to_signed_unit(maps)[2], 0)
    gradient = jax.grad(lambda x: to_unit(x).sum())(maps)
    assert jnp.isfinite(gradient).all()


def test_enlarging_keeps_the_mean_and_the_place():
    maps = jnp.zeros((1, 1, 4, 4)).at[0, 0, 1, 2].set(1)
    large = enlarge(maps, 16)
    np.testing.assert_allclose(large.mean(), maps.mean(), rtol=1e-5)
    y, x = np.unravel_index(large[0, 0].argmax(), (16, 16))
    assert (y // 4, x // 4) == (1, 2)
