"""What a row costs: parameters, multiply-adds, and time from its measured speed."""

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path

import ml_collections
from flax import nnx

from nest.errors import UserError
from nest.models.costs import count_multiply_adds, count_parameters
from nest.tables.collect import Result
from nest.tables.runs import Run
from nest.tables.table import Row


def load_config(row: Row) -> ml_collections.ConfigDict:
    """Return the config of a row, with its overrides."""
    file, _, argument = row.config.partition(":")
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    config = module.get_config(*filter(None, [argument]))
    config.update_from_flattened_dict(dict(row.overrides))
    return config


def model_costs(row: Row) -> tuple[int, int]:
    """Return a row's parameters and the multiply-adds of one image."""
    from nest.training.classifier_setup import build_model

    config = load_config(row)
    model = nnx.eval_shape(lambda: build_model(config, row.classes))
    return count_parameters(model), count_multiply_adds(model)


# Of a measurement: these say how it is done, and not what is measured.
MEASUREMENT_FIELDS = (
    "data.dataset",
    "batch_size",
    "num_epochs",
    "log_every_steps",
    "eval_every_epochs",
    "checkpoint_every_epochs",
)


def measurement(
    row: Row,
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    settings: Mapping[str, str],
) -> Run:
    """Return the run that times a row's training step on made-up images.

    Args:
      folder: its workdir.
      steps: of training, 3 or more.
      batch_size: 0 is the row's own.
      settings: fields that are changed in every row.

    Raises:
      UserError: batch size or image size are set to what is no number.
    """
    config = load_config(row)
    batch_size = batch_size or _number(settings, "batch_size", config.batch_size)
    size = _number(settings, "model.image_size", config.model.image_size)
    overrides = dict(row.overrides) | dict(settings)
    overrides |= {
        "data.source": "synthetic",
        "data.dataset": f"{row.classes}x{batch_size}x{size}",
        "data.train_split": "train",
        "data.eval_split": "test",
        "data.in_memory": True,
        "batch_size": batch_size,
        "num_epochs": float(steps),
        "warmup_epochs": 0.0,
        "log_every_steps": max(1, steps // 3),
        "eval_every_epochs": float(steps),
        "checkpoint_every_epochs": float(steps),
    }
    return Run(
        f"{row.name}: its speed", folder, (train_command(row.config, overrides),)
    )


def train_command(config: str, overrides: dict) -> tuple[str, ...]:
    """Return the arguments of python that train a config with some fields changed."""
    fields = (f"--config.{field}={value}" for field, value in overrides.items())
    return ("train.py", f"--config={config}", *fields)


def _number(settings: Mapping[str, str], field: str, default: int) -> int:
    try:
        return int(settings.get(field, default))
    except ValueError as error:
        raise UserError(
            f"--set={field}={settings[field]} is not a whole number"
        ) from error


def device_hours(row: Row, result: Result) -> float | None:
    """Return devices x hours of a whole training at a result's speed."""
    if not result.images_per_second:
        return None
    seconds = row.epochs * row.examples / result.images_per_second
    return seconds * result.devices / 3600


@functools.cache
def model_name(config: str) -> str:
    """Return the name of the model that a config trains."""
    return load_config(Row("", "", config)).model.name
