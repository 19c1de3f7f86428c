"""Write a trained classifier as StableHLO, for programs that know only JAX.

python scripts/export.py --weights=FILE --out=model.jaxexport

The program takes uint8 images (batch, size, size, 3) of any batch size, normalizes them
and returns float32 logits (batch, classes). It holds the parameters and runs on CPUs,
NVIDIA GPUs and TPUs. To run it, with jax alone:

    program = jax.export.deserialize(open("model.jaxexport", "rb").read())
    logits = program.call(images)

A JSON file beside it has the class names and what the input should be.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags

from nest import command
from nest.errors import UserError

WEIGHTS = flags.DEFINE_string(
    "weights", None, "A file, a folder or a hub name: whatever nest.weights reads."
)
WORKDIR = flags.DEFINE_string("workdir", None, "A run, in the place of --weights.")
OUT = flags.DEFINE_string("out", "model.jaxexport", "The file to write.")
PLATFORMS = flags.DEFINE_list(
    "platforms", ["cpu", "cuda", "tpu"], "Where it shall run."
)


def main() -> None:
    """Write the program and its description."""
    import jax
    import jax.numpy as jnp
    from jax import export

    from nest.augment.recipe import model_input
    from nest.weights import read_weights

    if bool(WEIGHTS.value) == bool(WORKDIR.value):
        raise UserError("give either --weights or --workdir")
    weights = read_weights(WEIGHTS.value or WORKDIR.value)
    model, size = weights.build(), weights.model["image_size"]

    def classify(images: jax.Array) -> jax.Array:
        return model(model_input(images, weights.mean, weights.std))

    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    try:
        program = export.export(jax.jit(classify), platforms=PLATFORMS.value)(images)
    except ValueError as error:
        raise UserError(f"--platforms={','.join(PLATFORMS.value)}: {error}") from error
    about = json.loads(weights.metadata())
    about["input"] = f"uint8 (batch, {size}, {size}, 3), RGB, not normalized"
    about["output"] = f"float32 (batch, {weights.model['num_classes']}), logits"
    description = Path(f"{OUT.value}.json")
    try:
        Path(OUT.value).write_bytes(program.serialize())
        description.write_text(json.dumps(about, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {OUT.value} ({error.strerror})") from error
    print(f"{weights.describe()}\nwritten  {OUT.value}, {description}")


if __name__ == "__main__":
    command.run(main)
