"""Two fake CPU devices and a training run of a few seconds."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from configs import digits_nest
from nest.models.classifier import NesT

ROOT = Path(__file__).parent.parent


@pytest.fixture
def small_config() -> ConfigDict:
    """A run on the digits: 9 steps of 32 images, evaluated and saved every 3."""
    config = digits_nest.get_config()
    config.model.layers = (1, 1)
    config.model.widths = (8, 8)
    config.model.heads = (2, 2)
    epoch = 1437 / 32
    config.num_epochs = 9 / epoch
    config.warmup_epochs = 3 / epoch
    config.eval_every_epochs = 3 / epoch
    config.checkpoint_every_epochs = 3 / epoch
    config.log_every_steps = 2
    return config


@pytest.fixture
def two_devices() -> list[jax.Device]:
    devices = jax.devices()
    assert len(devices) == 2
    return devices


@pytest.fixture(scope="session")
def small_model() -> NesT:
    """Three levels over 16x16 pixels, 5 classes; weights far from their small start."""
    model = nnx.eval_shape(
        lambda: NesT(
            image_size=16,
            patch_size=1,
            layers=(1, 1, 1),
            widths=(8, 12, 16),
            heads=(2, 3, 2),
            attention="multi_query",
            drop_path=0.0,
            num_classes=5,
            rngs=nnx.Rngs(0),
        )
    )
    graphdef, params = nnx.split(model)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(scale=0.3, size=x.shape), jnp.float32), params
    )
    return nnx.merge(graphdef, params)


@pytest.fixture(scope="session")
def small_images() -> np.ndarray:
    """Three images for `small_model`."""
    return np.random.default_rng(1).normal(size=(3, 16, 16, 3)).astype(np.float32)


def jitted(function: Callable, model: nnx.Module, *arguments: Any) -> Any:
    """Call a function of a model and arrays, compiled: much faster than op by op."""
    graphdef, params = nnx.split(model)

    def call(params: Any, *arguments: Any) -> Any:
        return function(nnx.merge(graphdef, params), *arguments)

    return jax.jit(call)(params, *arguments)
