"""nest.weights.workdirs: the weights of our own runs."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_same_weights
from ml_collections import ConfigDict

from nest.errors import UserError
from nest.training import workdir
from nest.training.checkpoints import Checkpoints
from nest.training.classifier_setup import build_optimizer
from nest.training.classifier_step import State
from nest.weights import read_weights, write_weights
from nest.weights.arrays import abstract_model, parameters, unflatten
from nest.weights.workdirs import split_checkpoint


def state_of(config: ConfigDict, mark: float) -> State:
    """A state whose average is `mark` everywhere, and its parameters its negative."""
    fields = {k: v for k, v in dict(config.model).items() if v is not None}
    shapes = parameters(abstract_model(fields | {"num_classes": 10}))
    params = unflatten({name: jnp.full(x.shape, -mark) for name, x in shapes.items()})
    optimizer = build_optimizer(config, learning_rate=lambda step: 0.0)
    ema = jax.tree.map(jnp.negative, params) if config.ema_decay else None
    return State(jnp.int32(mark), params, optimizer.init(params), ema)


def run_in(path: Path, config: ConfigDict) -> Path:
    """A run that saved steps 3 and 6, the first of them the best."""
    with workdir.claim(path, config):
        workdir.record(path, config, 0, {"class_names": tuple("0123456789")})
        checkpoints = Checkpoints(path, keep=2)
        checkpoints.save_best(3, state_of(config, 3.0), {"top1": 0.5})
        for step in (3, 6):
            checkpoints.save(step, state_of(config, float(step)), {})
        checkpoints.wait()
        checkpoints.close()
    return path


def test_each_checkpoint_is_read_with_its_model_and_input(tmp_path, small_config):
    config = small_config
    config.model.gelu = "exact"
    config.data.mean = (0.1, 0.2, 0.3)
    path = run_in(tmp_path / "run", config)
    for which, mark in (("", 6), (":latest", 6), (":best", 3), (":3", 3)):
        weights = read_weights(f"{path}{which}")
        leaves = jax.tree.leaves(weights.params)
        assert all((leaf == mark).all() for leaf in leaves)  # the average
        assert weights.source == f"{path}:{mark}"
    assert weights.model["gelu"] == "exact"
    assert weights.model["layers"] == (1, 1)
    assert weights.mean == (0.1, 0.2, 0.3)
    assert weights.class_names == tuple("0123456789")
    assert weights.assumed == ()
    assert weights.build(dtype=jnp.bfloat16).dtype == jnp.bfloat16

    write_weights(weights, tmp_path / "a.safetensors")
    assert_same_weights(read_weights(tmp_path / "a.safetensors"), weights)


def test_without_an_average_the_parameters_are_read(tmp_path, small_config):
    small_config.ema_decay = 0.0
    weights = read_weights(run_in(tmp_path, small_config))
    np.testing.assert_array_equal(weights.params["norm"]["scale"], -6)


def test_a_missing_checkpoint_or_config_is_one_line(tmp_path, small_config):
    path = run_in(tmp_path / "run", small_config)
    with pytest.raises(UserError, match=r"no checkpoint '7' in .* 3, 6, best \(3\)"):
        read_weights(f"{path}:7")
    (path / "config.json").write_text('{"model": {"name": "nest_huge"}}')
    with pytest.raises(UserError, match=r"config\.json does not tell the model"):
        read_weights(path)
    (path / "config.json").unlink()
    with pytest.raises(UserError, match="No such file"):
        read_weights(path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_one_line(tmp_path, small_config):
    path = run_in(tmp_path, small_config)
    shutil.rmtree(path / "checkpoints" / "6" / "state")
    with pytest.raises(UserError, match=r"6 is damaged .* choose another"):
        read_weights(f"{path}:6")


def test_a_colon_may_be_part_of_the_name(tmp_path: Path):
    (tmp_path / "run:3").mkdir()
    assert split_checkpoint(f"{tmp_path}/run:3") == (tmp_path / "run:3", "latest")
    assert split_checkpoint(f"{tmp_path}/run:3:4") == (tmp_path / "run:3", "4")
    assert split_checkpoint("runs/a:b") == (Path("runs/a:b"), "latest")
