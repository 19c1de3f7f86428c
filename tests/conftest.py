"""Two fake CPU devices and a training run of a few seconds."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
)
# Many tests, and the processes that they start, compile the same program.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.get(
    "NEST_TESTS_COMPILED"  # of the process that started this worker
) or tempfile.mkdtemp(prefix="nest-tests-")
os.environ["NEST_TESTS_COMPILED"] = os.environ["JAX_COMPILATION_CACHE_DIR"]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from configs import digits_generator, digits_nest
from nest.models.classifier import NesT
from nest.weights import Weights
from nest.weights.arrays import abstract_model, parameters, unflatten
from nest.weights.recognition import published_input, short_arguments

ROOT = Path(__file__).parent.parent


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


REFERENCE = ROOT.parent / "shared" / "reference"

# The published variants, small: fewer layers, narrower heads, smaller images.
SMALL_32 = dict(layers=(1, 2, 1, 1), widths=(12,) * 4, heads=(3,) * 4, image_size=16)
SMALL_224 = dict(layers=(1, 1, 2), widths=(12, 24, 48), heads=(3, 6, 12), image_size=48)


def small_arguments(name: str, **overrides) -> dict:
    """Arguments of `create_model` for a small model of the variant's kind."""
    small = SMALL_32 if name.endswith("_32") else SMALL_224
    arguments = dict(name=name, num_classes=7, gelu="tanh") | small | overrides
    return short_arguments(arguments)


def random_weights(
    arguments: dict, *, scale: float = 0.2, seed: int = 0, **fields
) -> Weights:
    """Weights in which every array matters: biases and norms too."""
    rng = np.random.default_rng(seed)
    arrays = {
        name: (scale * rng.normal(size=x.shape) + name.endswith("scale")).astype("f4")
        for name, x in parameters(abstract_model(arguments)).items()
    }
    about = published_input(arguments["name"], arguments["num_classes"])
    about |= dict(source="random") | fields
    return Weights(params=unflatten(arrays), model=arguments, **about)


def assert_same_weights(left: Weights, right: Weights) -> None:
    """Bit for bit, with all there is to know about them."""
    jax.tree.map(np.testing.assert_array_equal, left.params, right.params)
    assert left.metadata() == right.metadata()


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


TINY_GAN = {
    "log_every_steps": 1,
    "model.generator.layers": (1, 0),
    "model.generator.widths": (8, 8),
    "model.generator.heads": (2, 2),
    "model.discriminator.widths": (4, 4),
    "num_samples": 5,
    "r1_every": 2,
}


def tiny_gan(**overrides: Any) -> ConfigDict:
    """A GAN of the digits that compiles and trains in seconds."""
    config = digits_generator.get_config()
    config.update_from_flattened_dict(TINY_GAN | overrides)
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
