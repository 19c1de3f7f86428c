"""Parameters, and what it takes to use them: their model, input and classes."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from nest.models.classifier import NesT
from nest.models.variants import VARIANTS
from nest.weights.arrays import Report, abstract_model
from nest.weights.recognition import full_arguments

# Arguments of create_model that a file may set, and the type of each.
ARGUMENTS: dict[str, type] = dict(
    name=str,
    image_size=int,
    num_classes=int,
    gelu=str,
    patch_size=int,
    block_size=int,
    layers=tuple,
    widths=tuple,
    heads=tuple,
    attention=str,
    aggregation=str,
    drop_path=float,
    in_channels=int,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """What `read_weights` returns and `write_weights` takes.

    Attributes:
      params: pure dict of float32 arrays, as `nnx.to_pure_dict` of a model's state.
      model: arguments of `create_model`: name, image_size, num_classes, gelu, and what
        differs from the named variant.
      mean, std: of the input, per channel, of values in [0, 1].
      eval_crop: side of the centre crop / short side of the image, (0, 1].
      class_names: one per class, or None where unknown.
      source: where the weights come from first.
      assumed: which of the above, or of the model's arguments, the file did not tell.
      report: what became of the file's arrays.
    """

    params: dict[Any, Any]
    model: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    eval_crop: float
    class_names: tuple[str, ...] | None = None
    source: str = ""
    assumed: tuple[str, ...] = ()
    report: Report = dataclasses.field(default_factory=Report)

    def build(self, *, dtype: jnp.dtype = jnp.float32, remat: bool = False) -> NesT:
        """Build the model with these parameters; arguments as in `NesT`."""
        arguments = self.model | dict(dtype=dtype, remat=remat)
        graphdef = nnx.graphdef(abstract_model(arguments))
        return nnx.merge(graphdef, jax.tree.map(jnp.asarray, self.params))

    def metadata(self) -> str:
        """Return everything but the parameters and the report as JSON."""
        fields = dataclasses.asdict(
            dataclasses.replace(self, params={}, report=Report())
        )
        del fields["params"], fields["report"]
        return json.dumps(fields, sort_keys=True)

    def describe(self) -> str:
        """Return a few lines: model, input, what was assumed, the report."""
        size = sum(array.size for array in jax.tree.leaves(self.params))
        told = self.model | {
            field: getattr(self, field)
            for field in ("mean", "std", "eval_crop", "class_names")
        }
        full = full_arguments(self.model)
        assumed = [f"{name}={told.get(name, full.get(name))}" for name in self.assumed]
        overrides = [
            f"{name}={value}" for name, value in self.model.items() if name != "name"
        ]
        return "\n".join(
            [
                f"source   {self.source}",
                f"model    {self.model['name']} with {', '.join(overrides)}; "
                f"{size:,} parameters",
                f"input    mean={self.mean}, std={self.std}, "
                f"eval_crop={self.eval_crop:g}",
                f"assumed  {', '.join(assumed) or 'nothing'}",
                str(self.report),
            ]
        )


def parse_metadata(text: str) -> dict[str, Any]:
    """Read what `Weights.metadata` wrote, and trust nothing in it.

    Raises:
      ValueError: one line that says what is wrong.
    """
    try:
        fields = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    wanted = {field.name for field in dataclasses.fields(Weights)}
    wanted -= {"params", "report"}
    if not isinstance(fields, dict) or fields.keys() != wanted:
        raise ValueError(f"the fields are not {', '.join(sorted(wanted))}")
    fields["model"] = parse_model(fields["model"])
    if not {"image_size", "num_classes", "gelu"} <= fields["model"].keys():
        raise ValueError("the model lacks image_size, num_classes or gelu")
    for name in ("mean", "std"):
        fields[name] = numbers(name, fields[name])
    fields["eval_crop"] = fraction("eval_crop", fields["eval_crop"])
    for name in ("class_names", "assumed"):
        if name == "assumed" or fields[name] is not None:
            fields[name] = strings(name, fields[name])
    if not isinstance(fields["source"], str):
        raise ValueError("source is no string")
    return fields


def parse_model(fields: Any) -> dict[str, Any]:
    """Check arguments of `create_model` that come from a file.

    Raises:
      ValueError: one that does not exist or is of another type.
    """
    if not isinstance(fields, Mapping) or fields.get("name") not in VARIANTS:
        raise ValueError("the model has no name of a published variant")
    model = {}
    for name, value in fields.items():
        kind = ARGUMENTS.get(name)
        if isinstance(value, list):
            value = tuple(value)
        if kind is float and type(value) is int:
            value = float(value)
        sizes = value if isinstance(value, tuple) else (value,)
        if kind in (int, tuple) and not all(type(x) is int and x > 0 for x in sizes):
            kind = None
        if kind is None or type(value) is not kind:
            raise ValueError(f"no model has {str(name)[:40]}={str(value)[:40]}")
        model[name] = value
    return model


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """Check a list of finite numbers."""
    if not isinstance(value, list | tuple) or not all(map(_is_number, value)):
        raise ValueError(f"{name} is no list of numbers")
    return tuple(float(x) for x in value)


def fraction(name: str, value: Any) -> float:
    """Check a number in (0, 1]."""
    if not _is_number(value) or not 0 < value <= 1:
        raise ValueError(f"{name} is not in (0, 1]")
    return float(value)


def strings(name: str, value: Any) -> tuple[str, ...]:
    """Check a list of strings."""
    if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
        raise ValueError(f"{name} is no list of strings")
    return tuple(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
