"""Convert weights to a .safetensors file of our layout or timm's.

python scripts/convert_weights.py IN OUT --to=nest

IN is anything nest.weights reads: an authors' checkpoint (file or folder), a file of
timm's, hf-hub:timm/nest_tiny_jx.goog_in1k, or a workdir of ours, runs/digits_nest:best.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags

from nest import command
from nest.errors import UserError

TO = flags.DEFINE_enum("to", "nest", ["nest", "timm"], "Layout of OUT.")
GELU = flags.DEFINE_enum("gelu", None, ["tanh", "exact"], "In place of the file's.")
LAYERS = flags.DEFINE_list("layers", None, "Per level, where IN leaves a choice.")
HEADS = flags.DEFINE_list("heads", None, "Per level, where IN does not show them.")
ALLOW = flags.DEFINE_list("allow", [], "Names that may be missing or left over.")


def main(source: str, target: str) -> None:
    """Read, say what was read, write."""
    from nest.weights import read_weights, write_weights
    from nest.weights.timm import nest_arguments

    weights = read_weights(
        source,
        gelu=GELU.value,
        layers=integers("layers", LAYERS.value),
        heads=integers("heads", HEADS.value),
        allow=ALLOW.value,
    )
    print(weights.describe())
    write_weights(weights, target, layout=TO.value)
    print(f"written  {target}, layout {TO.value}")
    if TO.value == "timm":
        arguments = [f"{k}={v!r}" for k, v in nest_arguments(weights.model).items()]
        if weights.model["gelu"] == "tanh":
            arguments.append("act_layer=timm.layers.GELUTanh")
        print(f"for timm timm.models.nest.Nest({', '.join(arguments)})")


def integers(flag: str, values: list[str] | None) -> tuple[int, ...] | None:
    """Turn the value of a list flag into numbers."""
    if values is None:
        return None
    if not all(value.isdecimal() for value in values):
        raise UserError(f"--{flag}={','.join(values)}; give numbers: --{flag}=2,2,8")
    return tuple(int(value) for value in values)


if __name__ == "__main__":
    command.run(main, ("IN", "OUT"))
