"""The folder of one run: its config, its environment, and who may write to it."""

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import jax
import ml_collections

from nest.errors import UserError

# Fields that may differ when a run is resumed: they do not touch what is trained.
FREE_FIELDS = (
    "checkpoint_every_epochs",
    "data.data_dir",
    "data.threads",
    "eval_batch_size",
    "eval_every_epochs",
    "keep_checkpoints",
    "log_every_steps",
    "profile_steps",
)

# What an evaluation's config must share with the run: names or beginnings of names.
EVALUATION_FIELDS = (
    "clip_norm",
    "data.dataset",
    "data.mean",
    "data.source",
    "data.std",
    "ema_decay",
    "model.",
    "task",
)

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "clu",
    "grain",
    "ml_collections",
    "tensorflow-datasets",
    "numpy",
)


def claim(path: Path, config: ml_collections.ConfigDict) -> IO[str]:
    """Make the folder this run's own.

    Returns:
      An open lock; the folder is free again when it is closed or the process ends.

    Raises:
      UserError: the folder cannot be written, is in use by another run, or holds a run
        whose config differs in a field that changes the result.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "lock").open("a")
    except OSError as error:
        raise UserError(
            f"workdir {path} cannot be written ({error.strerror}); give another "
            f"--workdir"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise UserError(
            f"another run is writing to {path}; wait for it or give another --workdir"
        ) from error
    try:
        check_config(path, config)
    except BaseException:
        lock.close()
        raise
    return lock


def record(
    path: Path,
    config: ml_collections.ConfigDict,
    start_step: int,
    *,
    class_names: tuple[str, ...],
) -> None:
    """Write config.json and classes.json, and add this start to environment.json.

    environment.json is a list with an entry for every start, so that a run continued
    with other versions or on other devices shows both.
    """
    file = path / "environment.json"
    starts = []
    if start_step > 0 and file.exists():
        with contextlib.suppress(ValueError):
            starts = json.loads(file.read_text())
    _write_json(path / "config.json", _plain(config))
    _write_json(path / "classes.json", class_names)
    _write_json(file, [*starts, {"start_step": start_step} | environment()])


def check_config(path: Path, config: ml_collections.ConfigDict) -> None:
    """Raise UserError if `path` holds checkpoints of a config with another result."""
    if any(path.glob("checkpoints/[0-9]*")) or any(path.glob("best/[0-9]*")):
        _compare(path, config, lambda name: name not in FREE_FIELDS)


def check_evaluation_config(path: Path, config: ml_collections.ConfigDict) -> None:
    """Raise UserError if the checkpoints in `path` do not fit an evaluation's config.

    Only what shapes the checkpoint or the input has to agree.
    """
    if not (path / "config.json").exists():
        raise UserError(f"no run in {path}: config.json is missing; check --workdir")
    _compare(path, config, lambda name: name.startswith(EVALUATION_FIELDS))


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


def environment() -> dict[str, Any]:
    """Collect what a result depends on besides the config."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
        "command": sys.argv,
        "host": platform.node(),
        "cpu_count": os.cpu_count(),
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "process_count": jax.process_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of this checkout, with "+" when tracked files differ from it."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    return json.loads(config.to_json())


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
