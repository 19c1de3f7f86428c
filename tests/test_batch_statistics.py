"""Running statistics through the training step, checkpoints and evaluation."""

import dataclasses
import functools
import json
import shutil
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import jitted
from flax import nnx
from ml_collections import ConfigDict

from configs import recipes
from nest import create_model
from nest.augment.mixing import smooth_labels
from nest.augment.recipe import normalize
from nest.errors import UserError
from nest.training import classifier, classifier_evaluation
from nest.training import classifier_setup as setup
from nest.training.checkpoints import Checkpoints
from nest.training.classifier_step import (
    State,
    init_state,
    make_train_step,
    split_model,
)
from nest.training.devices import data_mesh, put_batch, replicated
from nest.weights import read_weights
from nest.weights.arrays import flatten, unflatten

CLASSES = 10


@functools.cache
def small_model() -> nnx.Module:
    """As before the first step, but drawn by numpy, which compiles nothing."""
    model = nnx.eval_shape(
        lambda: create_model(
            "wide_resnet_28_10",
            num_classes=CLASSES,
            image_size=4,
            layers=(1, 1),
            widths=(4, 6),
            rngs=nnx.Rngs(0),
        )
    )
    graphdef, state = nnx.split(model)
    rng = np.random.default_rng(0)
    arrays = {
        name: jnp.float32(0.3 * rng.normal(size=x.shape))
        if name.endswith("kernel")
        else jnp.full(x.shape, float(name.endswith(("scale", "var"))), jnp.float32)
        for name, x in flatten(nnx.to_pure_dict(state)).items()
    }
    return nnx.merge(graphdef, unflatten(arrays))


def batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (8, 4, 4, 3), np.uint8),
        "label": rng.integers(0, CLASSES, 8).astype(np.int32),
    }


def model_input(images: np.ndarray) -> jax.Array:
    return normalize(images / np.float32(255), (0.5,) * 3, (0.5,) * 3)


def run(
    devices: list, *, steps: int = 2, ema: float = 0.0, lr: float = 0.1, parts: int = 1
) -> list[State]:
    """Train by plain gradient descent; return the states."""
    mesh = data_mesh(devices)
    graphdef, *arrays = split_model(small_model())
    params, statistics = jax.device_get(arrays)  # the step consumes what it gets
    optimizer = optax.sgd(lr)
    step = make_train_step(
        graphdef,
        optimizer,
        mesh,
        augment=lambda images, labels, key: (
            model_input(images),
            smooth_labels(labels, CLASSES, 0.1),
        ),
        ema_decay=ema,
        accumulation_steps=parts,
        seed=0,
    )
    state = init_state(params, optimizer, ema=ema > 0, statistics=statistics)
    state = jax.device_put(state, replicated(mesh))
    states = [jax.device_get(state)]
    for _ in range(steps):
        state, _ = step(state, put_batch(batch(), mesh))
        states.append(jax.device_get(state))
    return states


def assert_close(left, right, **tolerance):
    jax.tree.map(partial(np.testing.assert_allclose, **tolerance), left, right)


@pytest.fixture(scope="module")
def stem_output() -> np.ndarray:
    """What the first normalization sees: (B, H, W, C)."""
    images = model_input(batch()["image"])
    return np.asarray(jitted(lambda model, x: model.stem(x), small_model(), images))


def test_statistics_are_of_the_global_batch(two_devices, stem_output):
    one = run(two_devices[:1])
    two = run(two_devices)
    # Sums in another order, through a step.
    assert_close(two[-1].statistics, one[-1].statistics, rtol=1e-4, atol=1e-5)
    assert_close(two[-1].params, one[-1].params, rtol=1e-4, atol=1e-5)
    moved = two[1].statistics["layers"][0]["first_norm"]
    mean = stem_output.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(moved["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    variance = stem_output.var(axis=(0, 1, 2))
    np.testing.assert_allclose(moved["var"], 0.9 + 0.1 * variance, rtol=1e-5)


def test_accumulation_moves_them_once_by_the_mean_of_the_parts(
    two_devices, stem_output
):
    state = run(two_devices, steps=1, parts=2)[-1]
    moved = state.statistics["layers"][0]["first_norm"]
    parts = [stem_output[i::2] for i in range(2)]
    means = np.mean([part.mean(axis=(0, 1, 2)) for part in parts], axis=0)
    variances = np.mean([part.var(axis=(0, 1, 2)) for part in parts], axis=0)
    np.testing.assert_allclose(moved["mean"], 0.1 * means, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(moved["var"], 0.9 + 0.1 * variances, rtol=1e-5)
    whole = stem_output.var(axis=(0, 1, 2))
    assert np.abs(moved["var"] - (0.9 + 0.1 * whole)).max() > 1e-4


def test_the_average_is_of_parameters_and_statistics(two_devices):
    d = 0.75
    states = run(two_devices, ema=d)
    weights = [d**2, (1 - d) * d, 1 - d]
    expected = jax.tree.map(
        lambda *x: sum(w * y for w, y in zip(weights, x, strict=True)),
        *[state.variables for state in states],
    )
    assert_close(states[-1].ema, expected, rtol=1e-5, atol=1e-7)
    assert states[-1].eval_params is states[-1].ema
    names = flatten(states[-1].ema)
    assert {"norm.mean", "norm.var", "norm.scale", "stem.kernel"} <= names.keys()


def test_a_state_without_statistics_has_no_entry_for_them():
    state = State(np.int32(0), {"a": np.zeros(1)}, (), None)
    paths = jax.tree_util.tree_flatten_with_path(state, is_leaf=lambda x: x is None)[0]
    assert [jax.tree_util.keystr(path) for path, _ in paths] == [
        ".step",
        ".params['a']",
        ".ema",
    ]
    assert jax.tree.map(lambda x: x, state).statistics is None
    assert state.variables is state.params


def baseline_config(small_config: ConfigDict) -> ConfigDict:
    """Nine steps on the digits, saved every three."""
    config = small_config
    recipes.set_baseline(config, "wide_resnet_28_10")
    config.model.widths = (4, 8)
    with config.unlocked():
        config.model.heads = None
    config.keep_checkpoints = 9
    config.ema_decay = 0.9
    return config


@pytest.mark.parametrize("ema", [{"a": {"0": {"mean": np.float32([7])}}}, None])
def test_evaluation_gets_the_statistics_from_a_checkpoint(ema, tmp_path: Path):
    params, statistics = {"a": {0: {"scale": 1}}}, {"a": {0: {"mean": 2}}}
    state = State(*jax.tree.map(np.float32, (0, params, (), None, statistics)))
    state = jax.tree.map(lambda x: jnp.array([x]), state)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, dataclasses.replace(state, ema=ema), {})
    checkpoints.wait()
    step, found = checkpoints.restore_parameters("latest")
    checkpoints.close()
    assert step == 3
    found = {name: float(x[0]) for name, x in flatten(found).items()}
    assert found == ({"a.0.mean": 7} if ema else {"a.0.mean": 2, "a.0.scale": 1})


def test_a_run_resumes_with_the_same_bits_and_is_evaluated(
    small_config, tmp_path: Path, capsys
):
    config = baseline_config(small_config)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    classifier.train(config, whole)
    shutil.copytree(whole, resumed)
    for step in (6, 9):
        shutil.rmtree(resumed / "checkpoints" / str(step))
    capsys.readouterr()
    classifier.train(config, resumed)
    assert "resuming at step 3" in capsys.readouterr().out

    optimizer = setup.build_optimizer(config, lambda step: 0.0)
    _, like = setup.build_state(config, optimizer, data_mesh(), num_classes=CLASSES)
    states = [
        Checkpoints(path, read_only=True).restore("latest", like)[1]
        for path in (whole, resumed)
    ]
    assert states[0].statistics is not None
    jax.tree.map(np.testing.assert_array_equal, *states)

    classifier_evaluation.evaluate_checkpoint(config, resumed, "latest")
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = (whole / "metrics.jsonl").read_text().splitlines()
    assert found["step"] == 9
    assert found["loss"] == pytest.approx(json.loads(rows[-1])["eval/loss"], rel=1e-6)

    with pytest.raises(UserError, match="holds a wide_resnet_28_10: only NesT can be"):
        read_weights(resumed)
    config.localization.method = "cam"
    with pytest.raises(UserError, match="needs the levels of a NesT"):
        classifier_evaluation.evaluate_checkpoint(config, resumed, "latest")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("init_from", "x.safetensors", "only a NesT starts from weights"),
        ("layer_decay", 0.5, "knows the layers of a NesT only"),
        ("model.aggregation", "max_pool", "wide_resnet_28_10 has no aggregation"),
    ],
)
def test_what_only_nest_has_is_named(
    small_config, field: str, value, message: str, tmp_path: Path
):
    config = baseline_config(small_config)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
        classifier.train(config, tmp_path)
