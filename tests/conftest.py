"""Two fake CPU devices and a training run of a few seconds."""

import os
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import pytest
from ml_collections import ConfigDict

from configs import digits_nest

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
