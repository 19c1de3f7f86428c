"""nest.weights.fitting: against interpolation written as loops over the blocks."""

import jax
import numpy as np
import pytest
from conftest import random_weights, small_arguments
from flax import nnx

from nest import NesT
from nest.errors import UserError
from nest.weights import fit
from nest.weights.arrays import flatten
from nest.weights.fitting import resize_position_embedding


def cubic(x: float) -> float:
    """Keys' kernel with a = -0.5."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def line(old: int, new: int) -> np.ndarray:
    """(new, old): how each new sample is made of the old ones."""
    matrix = np.zeros((new, old))
    wider = max(1, old / new)  # antialiasing, when there are fewer
    for i in range(new):
        center = (i + 0.5) * old / new - 0.5
        for j in range(old):
            matrix[i, j] = cubic((j - center) / wider)
        matrix[i] /= matrix[i].sum()
    return matrix


def resized(plane: np.ndarray, side: int) -> np.ndarray:
    matrix = line(len(plane), side)
    return np.einsum("ih,jw,hwc->ijc", matrix, matrix, plane)


@pytest.mark.parametrize(("old", "new"), [(14, 24), (4, 7), (6, 4)])
def test_inside_each_block_when_only_the_tokens_change(old: int, new: int):
    x = np.random.default_rng(0).normal(size=(1, 4, old**2, 3)).astype(np.float32)
    expected = np.zeros((1, 4, new**2, 3))
    for block in range(4):
        plane = x[0, block].reshape(old, old, 3)
        expected[0, block] = resized(plane, new).reshape(new**2, 3)
    # float32: the positions of the samples are rounded too.
    np.testing.assert_allclose(
        resize_position_embedding(x, 4, new**2), expected, atol=1e-5
    )


@pytest.mark.parametrize(("rows", "size"), [(4, 4), (4, 2), (1, 4)])
def test_on_the_image_plane_when_the_blocks_change(rows: int, size: int):
    old_rows, old_size = 2, 4
    x = np.random.default_rng(0).normal(size=(1, 4, 16, 3)).astype(np.float32)
    plane = np.zeros((8, 8, 3))
    for i in range(old_rows):
        for j in range(old_rows):
            block = x[0, i * old_rows + j].reshape(old_size, old_size, 3)
            plane[4 * i : 4 * i + 4, 4 * j : 4 * j + 4] = block
    plane = resized(plane, rows * size)
    expected = np.zeros((1, rows**2, size**2, 3))
    for i in range(rows):
        for j in range(rows):
            window = (slice(size * i, size * (i + 1)), slice(size * j, size * (j + 1)))
            expected[0, i * rows + j] = plane[window].reshape(size**2, 3)
    np.testing.assert_allclose(
        resize_position_embedding(x, rows**2, size**2), expected, atol=1e-5
    )


def fresh(arguments: dict) -> NesT:
    """A model with parameters of its own."""
    return random_weights(arguments, seed=1).build()


def test_the_same_model_takes_every_bit():
    weights = random_weights(small_arguments("nest_tiny_s16_32"))
    model = fresh(weights.model)
    params, report = fit(weights, model)
    ours, before = flatten(params), flatten(weights.params)
    assert ours.keys() == before.keys() == set(report.loaded)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, before[name])
    assert not report.resized and not report.new and not report.unused


@pytest.mark.parametrize(
    ("name", "overrides", "first"),
    [
        ("nest_tiny_s196_224", {"image_size": 80}, (1, 16, 25, 12)),
        ("nest_tiny_s16_32", {"image_size": 32}, (1, 64, 16, 12)),
        ("nest_tiny_s16_32", {"image_size": 32, "block_size": 2}, (1, 256, 4, 12)),
    ],
)
def test_another_image_size_resizes_every_position_embedding(name, overrides, first):
    weights = random_weights(small_arguments(name))
    model = fresh(weights.model | overrides)
    params, report = fit(weights, model)
    levels = len(weights.params["levels"])
    assert list(report.resized) == [
        f"levels.{i}.position_embedding" for i in range(levels)
    ]
    assert report.resized["levels.0.position_embedding"][1] == first
    assert not report.new
    graphdef = nnx.graphdef(model)
    size = overrides["image_size"]
    images = np.ones((1, size, size, 3), np.float32)
    logits = jax.jit(lambda p, x: nnx.merge(graphdef, p)(x))(params, images)
    assert logits.shape == (1, 7) and np.isfinite(logits).all()
    assert "resized  levels.0.position_embedding (1, " in str(report)


@pytest.mark.parametrize(("classes", "new_head"), [(3, None), (7, True)])
def test_a_new_head_is_the_models_own(classes: int, new_head: bool | None):
    weights = random_weights(small_arguments("nest_tiny_s16_32"))
    arguments = weights.model | {"num_classes": classes}
    model = fresh(arguments)
    params, report = fit(weights, model, new_head=new_head)
    assert set(report.new) == {"head.bias", "head.kernel"}
    np.testing.assert_array_equal(params["head"]["kernel"], model.head.kernel[...])
    np.testing.assert_array_equal(
        params["norm"]["scale"], weights.params["norm"]["scale"]
    )


def test_what_does_not_fit_is_an_error_unless_allowed():
    weights = random_weights(small_arguments("nest_tiny_s16_32"))
    arguments = weights.model | {"patch_size": 2, "image_size": 32}
    model = fresh(arguments)
    message = r"wrong shape patch_embedding.kernel \(1, 1, 3, 12\), not \(2, 2, 3, 12\)"
    with pytest.raises(UserError, match=message):
        fit(weights, model)
    params, report = fit(weights, model, allow=("patch_embedding.*",))
    assert report.new == ("patch_embedding.kernel",)
    kernel = model.patch_embedding.kernel[...]
    np.testing.assert_array_equal(params["patch_embedding"]["kernel"], kernel)

    deeper = fresh(weights.model | {"layers": (1, 2, 1, 2)})
    with pytest.raises(UserError, match=r"missing levels.3.layers.1.*and 8 more"):
        fit(weights, deeper)
    shallower = fresh(weights.model | {"layers": (1, 1, 1, 1)})
    with pytest.raises(UserError, match=r"unexpected levels.1.layers.1"):
        fit(weights, shallower)
    _, report = fit(weights, shallower, allow=("levels.1.layers.1.*",))
    assert len(report.unused) == 12 and not report.new
