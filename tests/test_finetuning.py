"""nest.training.finetuning."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from nest import create_model
from nest.errors import UserError
from nest.training.finetuning import depths, fine_tuning, frozen, initialize
from nest.weights import Weights, write_weights
from nest.weights.arrays import flatten, parameters

MODEL = dict(
    name="nest_tiny_s16_32",
    image_size=8,
    num_classes=3,
    gelu="tanh",
    layers=(1, 2),
    widths=(8, 8),
    heads=(2, 2),
)


AS_FILED = dict(gelu="tanh", mean=(0.5,) * 3, std=(0.5,) * 3)


def model(seed: int = 0, **changes) -> nnx.Module:
    return create_model(**MODEL | changes, rngs=nnx.Rngs(seed))


def params_of(model: nnx.Module) -> dict:
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


@pytest.fixture
def file(tmp_path: Path) -> str:
    weights = Weights(
        params=params_of(model(seed=1)),
        model=MODEL,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        eval_crop=1.0,
        class_names=("a", "b", "c"),
    )
    path = tmp_path / "weights.safetensors"
    write_weights(weights, path)
    return str(path)


def taken(params: dict, seed: int) -> set[str]:
    """Names of the parameters that equal those of a model of this seed."""
    other = parameters(model(seed=seed))
    return {
        name
        for name, x in flatten(params).items()
        if x.shape == other[name].shape and (np.asarray(x) == other[name]).all()
    }


CONSTANT_AT_FIRST = ("bias", "scale")


def drawn(names: set[str]) -> set[str]:
    return {name for name in names if not name.endswith(CONSTANT_AT_FIRST)}


def test_the_same_classes_keep_the_head(file: str):
    params, report = initialize(model(), file, ("a", "b", "c"), **AS_FILED)
    assert not report.new and not report.resized
    assert taken(params, 1) == set(flatten(params))


@pytest.mark.parametrize("classes", [("x", "b", "c"), ("a", "b")])
def test_other_classes_get_a_new_head(file: str, classes: tuple[str, ...]):
    fresh = model(num_classes=len(classes))
    params, report = initialize(fresh, file, classes, **AS_FILED)
    assert set(report.new) == {"head.bias", "head.kernel"}
    assert drawn(set(flatten(params)) - taken(params, 1)) == {"head.kernel"}
    np.testing.assert_array_equal(params["head"]["kernel"], fresh.head.kernel[...])


def test_another_size_resizes_the_position_embeddings(file: str):
    params, report = initialize(model(image_size=16), file, ("a", "b", "c"), **AS_FILED)
    assert set(report.resized) == {
        "levels.0.position_embedding",
        "levels.1.position_embedding",
    }
    assert params["levels"][0]["position_embedding"].shape == (1, 4, 64, 8)


def test_another_gelu_is_refused(file: str):
    with pytest.raises(UserError, match=r"set --config\.model\.gelu=tanh"):
        initialize(
            model(gelu="exact"), file, ("a", "b", "c"), **AS_FILED | {"gelu": "exact"}
        )


def test_another_normalization_is_refused(file: str):
    with pytest.raises(UserError, match=r"mean \(0\.5, 0\.5, 0\.5\).*set --config"):
        initialize(model(), file, ("a", "b", "c"), **AS_FILED | {"mean": (0.1,) * 3})


def test_depths_follow_the_layers():
    depth = depths(params_of(model()))
    assert depth["patch_embedding.kernel"] == 0
    assert depth["levels.0.position_embedding"] == 1
    assert depth["levels.0.layers.0.mlp.expand.kernel"] == 1
    assert depth["levels.1.aggregation.conv.kernel"] == 2
    assert depth["levels.1.position_embedding"] == 2
    assert depth["levels.1.layers.0.attention.qkv.kernel"] == 2
    assert depth["levels.1.layers.1.attention.qkv.kernel"] == 3
    assert depth["norm.scale"] == depth["head.kernel"] == 4


def updates_of(**arguments) -> dict[str, jax.Array]:
    params = params_of(model())
    optimizer = fine_tuning(optax.sgd(1.0), **arguments)
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(ones, optimizer.init(params), params)
    return flatten(updates)


def test_layer_decay_scales_by_depth():
    for name, update in updates_of(freeze=(), layer_decay=0.5).items():
        expected = -(0.5 ** (4 - depths(params_of(model()))[name]))
        np.testing.assert_allclose(update, expected, rtol=1e-6)


def test_frozen_parameters_stay():
    updates = updates_of(freeze=("levels.0.*", "patch_embedding.*"), layer_decay=1.0)
    for name, update in updates.items():
        stays = name.startswith(("levels.0.", "patch_embedding."))
        assert (update == (0 if stays else -1)).all(), name


def test_a_pattern_that_fits_nothing_is_named():
    with pytest.raises(UserError, match=r"no parameter is called 'level\.0\.\*'"):
        frozen(params_of(model()), ("level.0.*",))


def test_a_frozen_gradient_does_not_count_in_clipping():
    params = {"head": {"bias": jnp.zeros(1)}, "norm": {"bias": jnp.zeros(1)}}
    grads = {"head": {"bias": jnp.array([0.5])}, "norm": {"bias": jnp.array([100.0])}}
    clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))
    optimizer = fine_tuning(clipped, freeze=("norm.*",), layer_decay=1.0)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    assert updates["head"]["bias"] == -0.5 and updates["norm"]["bias"] == 0
