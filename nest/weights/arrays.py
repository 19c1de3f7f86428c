"""Parameters as a flat dict of named arrays, and whether they fit a model.

Names are the model's attributes: "levels.0.layers.1.mlp.expand.kernel".
"""

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax import nnx

from nest.models.classifier import NesT
from nest.models.variants import create_model

Arrays = dict[str, np.ndarray]

SHOWN = 4  # names in a message; the rest is counted


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of the arrays, by name in the model's layout (unused: the file's).

    Attributes:
      loaded: taken as they are.
      resized: name -> (shape in the file, shape in the model).
      new: not taken from the file but freshly drawn.
      unused: in the file but not in the model.
    """

    loaded: tuple[str, ...] = ()
    resized: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = dataclasses.field(
        default_factory=dict
    )
    new: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"loaded   {len(self.loaded)} arrays"]
        for name, (old, new) in self.resized.items():
            lines.append(f"resized  {name} {old} -> {new}")
        for label, names in (("new", self.new), ("unused", self.unused)):
            lines.append(f"{label:<8} {', '.join(names) or 'none'}")
        return "\n".join(lines)


def flatten(params: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Turn a nested dict (keys strings or integers) into a flat one."""
    flat = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def unflatten(arrays: Mapping[str, Any]) -> dict[Any, Any]:
    """Turn a flat dict into the nested pure dict of `nnx.split`: integers in lists."""
    params: dict[Any, Any] = {}
    for name, array in arrays.items():
        *path, last = (int(key) if key.isdigit() else key for key in name.split("."))
        inner = params
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = array
    return params


def join(params: dict[Any, Any], statistics: dict[Any, Any] | None) -> dict[Any, Any]:
    """Join two nested dicts of one model: its parameters and its statistics, if any."""
    if statistics is None:
        return params
    return unflatten(flatten(params) | flatten(statistics))


def variables(model: nnx.Module) -> dict[str, Any]:
    """Return the model's parameters and statistics, arrays or shapes, by name."""
    return flatten(nnx.to_pure_dict(nnx.state(model)))


def parameters(model: NesT) -> dict[str, Any]:
    """Return the model's parameters, arrays or shapes, by name."""
    return flatten(nnx.to_pure_dict(nnx.state(model, nnx.Param)))


def abstract_model(arguments: Mapping[str, Any]) -> NesT:
    """Build a model of shapes without arrays.

    Raises:
      ValueError: the arguments of `create_model` do not fit together.
    """
    return nnx.eval_shape(lambda: create_model(**arguments, rngs=nnx.Rngs(0)))


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is one of the patterns, in which * stands for anything."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def compare(
    arrays: Mapping[str, Any], model: Mapping[str, Any], allow: Iterable[str]
) -> Report:
    """Compare names and shapes with a model's.

    Args:
      allow: names, with * for anything, that may be missing, left over or of another
        shape; such an array of the model is then new.

    Raises:
      ValueError: one line that says what does not fit.
    """
    loaded, new, missing, wrong = [], [], [], []
    for name, wanted in model.items():
        if name in arrays and arrays[name].shape == wanted.shape:
            loaded.append(name)
        elif matches(name, allow):
            new.append(name)
        elif name in arrays:
            wrong.append(f"{name} {arrays[name].shape}, not {wanted.shape}")
        else:
            missing.append(name)
    unused = [name for name in arrays if name not in model]
    unexpected = [name for name in unused if not matches(name, allow)]
    problems = [
        f"{label} {shortened(names)}"
        for label, names in (
            ("missing", missing),
            ("wrong shape", wrong),
            ("unexpected", unexpected),
        )
        if names
    ]
    if problems:
        raise ValueError("; ".join(problems))
    return Report(loaded=tuple(loaded), new=tuple(new), unused=tuple(unused))


def shortened(names: Iterable[str]) -> str:
    """List the first few names and count the rest."""
    names = [name if len(name) <= 80 else f"{name[:77]}..." for name in names]
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
