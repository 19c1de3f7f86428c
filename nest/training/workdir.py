"""The folder of one run: its config, its environment, and who may write to it."""

import contextlib
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections

from nest.errors import UserError
from nest.lock import lock_folder
from nest.training import hosts
from nest.training.environment import environment

# Fields that may differ when a run is resumed: they do not touch what is trained.
FREE_FIELDS = (
    "checkpoint_every_epochs",
    "checkpoint_every_steps",
    "data.data_dir",
    "data.threads",
    "eval_batch_size",
    "eval_every_epochs",
    "evaluation.baseline",
    "evaluation.batch_size",
    "evaluation.classifier",
    "evaluation.inception",
    "evaluation.inception_weights",
    "evaluation.num_real",
    "evaluation.num_samples",
    "keep_checkpoints",
    "localization.boxes",
    "localization.method",
    "localization.threshold",
    "localization.thresholds",
    "log_every_steps",
    "num_samples",
    "profile_steps",
    "sample_every_steps",
)

# Fields that may differ from host to host.
HOST_FIELDS = ("data.data_dir", "data.threads", "localization.boxes")

# What an evaluation's config must share with the run: names or beginnings of names.
EVALUATION_FIELDS = (
    "data.dataset",
    "data.holdout",
    "data.mean",
    "data.source",
    "data.std",
    "model.",
    "task",
)

# A config of each task that trains on every machine.
EXAMPLES = {
    "classifier": "configs/digits_nest.py",
    "gan": "configs/digits_generator.py",
}


@contextlib.contextmanager
def claim(path: Path, config: ml_collections.ConfigDict) -> Iterator[None]:
    """Make the folder this run's own while in the `with` block; process 0 locks it.

    Raises:
      UserError: the folder cannot be written, is in use by another run, holds a run
        whose config differs in a field that changes the result, or is not the same one
        for all processes.
    """
    if jax.process_index() > 0:
        hosts.share_folder(path, None)
        yield
        return
    with lock_folder(path, option="--workdir") as lock:
        check_config(path, config)
        token = secrets.token_hex(8)
        lock.truncate(0)
        lock.write(token)
        lock.flush()
        hosts.share_folder(path, token)
        yield


def record(
    path: Path,
    config: ml_collections.ConfigDict,
    start_step: int,
    data: dict[str, Any],
) -> None:
    """Write config.json and data.json, and add this start to environment.json.

    Only process 0 does.

    environment.json is a list with an entry for every start, so that a run continued
    with other versions or on other devices shows both.

    Args:
      data: what `check_data` compares when the run goes on.
    """
    if jax.process_index() > 0:
        return
    file = path / "environment.json"
    starts = []
    if start_step > 0 and file.exists():
        with contextlib.suppress(ValueError):
            starts = json.loads(file.read_text())
    _write_json(path / "config.json", _plain(config))
    _write_json(path / "data.json", data)
    _write_json(file, [*starts, {"start_step": start_step} | environment()])


def check_config(path: Path, config: ml_collections.ConfigDict) -> None:
    """Raise UserError if `path` holds checkpoints of a config with another result."""
    if has_checkpoints(path):
        _compare(path, config, lambda name: name not in FREE_FIELDS)


def check_data(path: Path, data: dict[str, Any]) -> None:
    """Raise UserError if `path` holds checkpoints of a run on other data.

    Args:
      data: numbers of examples and class names.
    """
    file = path / "data.json"
    if not (has_checkpoints(path) and file.exists()):
        return
    old = json.loads(file.read_text())
    new = json.loads(json.dumps(data))
    changed = [name for name in new if old.get(name) != new[name]]
    if changed:
        raise UserError(
            f"{path} holds a run on other data ({', '.join(changed)} changed since); "
            f"restore the data or give another --workdir"
        )


def class_names(path: Path) -> tuple[str, ...] | None:
    """Return the classes that the run in `path` was trained on, where it tells."""
    file = path / "data.json"
    return tuple(json.loads(file.read_text())["class_names"]) if file.exists() else None


def read_config(path: Path, *, task: str) -> ml_collections.ConfigDict:
    """Read the config of the run in `path`.

    Raises:
      UserError: there is none, or it is of another task.
    """
    file = path / "config.json"
    try:
        fields = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"no run in {path}: config.json is missing; check --workdir, or train one: "
            f"python train.py --config={EXAMPLES[task]}"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}); restore it") from error
    if fields.get("task") != task:
        raise UserError(
            f"{path} holds a run of the task {fields.get('task')!r}, but this needs "
            f"one of the task {task!r}; give another --workdir"
        )
    return ml_collections.ConfigDict(_with_tuples(fields))


def check_evaluation_config(path: Path, config: ml_collections.ConfigDict) -> None:
    """Raise UserError if the checkpoints in `path` do not fit an evaluation's config.

    Only what shapes the checkpoint or the input has to agree.
    """
    if not (path / "config.json").exists():
        raise UserError(f"no run in {path}: config.json is missing; check --workdir")
    _compare(path, config, lambda name: name.startswith(EVALUATION_FIELDS))


def has_checkpoints(path: Path) -> bool:
    """Tell whether a folder holds checkpoints of a training run."""
    return any(path.glob("checkpoints/[0-9]*")) or any(path.glob("best/[0-9]*"))


def _compare(
    path: Path, config: ml_collections.ConfigDict, matters: Callable[[str], bool]
) -> None:
    file = path / "config.json"
    try:
        old = _flatten(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read ({error}); restore or remove it"
        ) from error
    new = _flatten(_plain(config))
    if old.get("task") != new["task"]:
        raise UserError(
            f"{path} holds a run of the task {old.get('task')!r}, the config is of "
            f"the task {new['task']!r}; give another --workdir"
        )
    changed = [
        f"{name} was {_show(old, name)}, now {_show(new, name)}"
        for name in sorted(old.keys() | new.keys())
        if matters(name) and _show(old, name) != _show(new, name)
    ]
    if changed:
        raise UserError(
            f"{path} holds a run of another config ({'; '.join(changed)}); change it "
            f"back or give another --workdir"
        )


def common_fields(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Return the fields that have to be the same on all hosts, by their names."""
    return {
        f"config.{name}": value
        for name, value in _flatten(_plain(config)).items()
        if name not in HOST_FIELDS
    }


def _plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    return json.loads(config.to_json())


def _with_tuples(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _with_tuples(value) for name, value in tree.items()}
    return tuple(tree) if isinstance(tree, list) else tree


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _show(fields: dict[str, Any], name: str) -> str:
    return json.dumps(fields[name]) if name in fields else "absent"


def _write_json(file: Path, content: Any) -> None:
    """Write in one piece, so that a kill leaves the old file or the new one."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    part.replace(file)
