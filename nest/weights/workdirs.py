"""The weights in our own workdirs: a checkpoint, and the config.json of its run."""

import json
import re
from pathlib import Path
from typing import Any

from nest.errors import UserError
from nest.models.variants import BASELINES
from nest.weights.arrays import Arrays, flatten
from nest.weights.weights import fraction, numbers, parse_model, strings

READ_ERRORS = (
    AttributeError,
    KeyError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)

# Fields of config.model that say how to compute, not what.
NOT_OF_WEIGHTS = ("dtype", "remat")


def split_checkpoint(source: str) -> tuple[Path, str]:
    """Split "workdir[:best|latest|STEP]" into folder and checkpoint."""
    match = re.fullmatch(r"(.+):(best|latest|\d+)", source, re.DOTALL)
    if match and not Path(source).exists():
        return Path(match[1]), match[2]
    return Path(source), "latest"


def read_workdir(folder: Path, which: str) -> tuple[Arrays, dict[str, Any]]:
    """Read the parameters that evaluation uses: the average where there is one.

    Args:
      which: "best", "latest" or a step.

    Returns:
      The arrays by name, and what config.json tells: model, input and class names.

    Raises:
      UserError: no such checkpoint, or a damaged one or config.json.
    """
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text())
        name = config["model"]["name"]
        if name in BASELINES:
            raise UserError(
                f"{folder} holds a {name}: only NesT can be explained, exported or "
                f"used elsewhere; evaluate.py evaluates this one"
            )
        told = _read_config(config)
        told["class_names"] = _class_names(folder)
    except READ_ERRORS as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else error
        raise UserError(
            f"{file} does not tell the model of the run ({reason}); restore it"
        ) from error
    # Orbax takes a second to import and no weight file needs it.
    from nest.training.checkpoints import Checkpoints

    checkpoints = Checkpoints(folder, read_only=True)
    try:
        step, params = checkpoints.restore_parameters(which)
    finally:
        checkpoints.close()
    arrays = flatten(params)
    told["source"] = f"{folder}:{step}"
    if "head.bias" in arrays:  # config.json leaves it to the dataset
        told["model"]["num_classes"] = len(arrays["head.bias"])
    return arrays, told


def _read_config(config: dict[str, Any]) -> dict[str, Any]:
    fields = {
        name: value
        for name, value in config["model"].items()
        if value is not None and name not in NOT_OF_WEIGHTS
    }
    data = config["data"]
    return {
        "model": {"gelu": "tanh"} | parse_model(fields),
        "mean": numbers("mean", data["mean"]),
        "std": numbers("std", data["std"]),
        "eval_crop": fraction("eval_crop", data["eval_crop"]),
    }


def _class_names(folder: Path) -> tuple[str, ...] | None:
    file = folder / "data.json"
    if not file.exists():
        return None
    return strings("class names", json.loads(file.read_text())["class_names"])
