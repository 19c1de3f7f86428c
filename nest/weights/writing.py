"""Weights to .safetensors files, in our layout or timm's."""

from pathlib import Path

from nest.errors import UserError
from nest.weights.arrays import flatten
from nest.weights.files import write_safetensors
from nest.weights.reading import METADATA
from nest.weights.timm import to_timm
from nest.weights.weights import Weights

LAYOUTS = ("nest", "timm")


def write_weights(weights: Weights, file: str | Path, *, layout: str = "nest") -> None:
    """Write a .safetensors file in one piece, with all there is to know about it.

    Everything but the arrays is one JSON object under "nest" in the file's metadata, so
    that both layouts read back as they were written.

    Args:
      layout: "nest", our names, or "timm", which timm's `nest_*_jx` models load (with
        `act_layer` the tanh form where `weights.model["gelu"]` is).

    Raises:
      UserError: timm has no such model, or the disk does not take the file.
    """
    file = Path(file)
    if layout not in LAYOUTS:
        raise UserError(f"no layout {layout!r}; there are: {', '.join(LAYOUTS)}")
    if file.suffix != ".safetensors":
        raise UserError(f"{file} must end in .safetensors")
    arrays = flatten(weights.params)
    if layout == "timm":
        try:
            arrays = to_timm(arrays, weights.model)
        except ValueError as error:
            raise UserError(f"{weights.source} does not go to timm: {error}") from error
    write_safetensors(file, arrays, {METADATA: weights.metadata()})
