"""Classify image files.

python scripts/predict.py IMAGES... --weights=FILE
python scripts/predict.py IMAGES... --workdir=runs/digits_nest

IMAGES are files or folders, of any format. A file that cannot be read is named and the
others are still answered; the exit status is then 1.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags

from nest import command
from nest.errors import UserError

WEIGHTS = flags.DEFINE_string(
    "weights", None, "A file, a folder or a hub name: whatever nest.weights reads."
)
WORKDIR = flags.DEFINE_string("workdir", None, "A run, in the place of --weights.")
TOP = flags.DEFINE_integer("top", 5, "Classes per image.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images at a time.", lower_bound=1)
JSON = flags.DEFINE_boolean("json", False, "Print a line of JSON per image.")


def main(*arguments: str) -> None:
    """Print the likeliest classes of every image."""
    import jax
    import numpy as np
    from flax import nnx

    from nest.augment.recipe import model_input
    from nest.data.images import center_crop, open_picture
    from nest.weights import read_weights

    if bool(WEIGHTS.value) == bool(WORKDIR.value):
        raise UserError("give either --weights or --workdir")
    files = list(expand(arguments))
    weights = read_weights(WEIGHTS.value or WORKDIR.value)
    graphdef, params = nnx.split(weights.build())
    size, classes = weights.model["image_size"], weights.model["num_classes"]
    names = weights.class_names or tuple(f"class {k}" for k in range(classes))
    count = min(TOP.value, classes)

    @jax.jit
    def classify(params: nnx.State, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graphdef, params)
        logits = model(model_input(images, weights.mean, weights.std))
        return jax.lax.top_k(jax.nn.softmax(logits), count)

    failed, answered, seconds = 0, 0, 0.0
    for start in range(0, len(files), BATCH_SIZE.value):
        readable, pixels = [], []
        begin = time.perf_counter()
        for file in files[start : start + BATCH_SIZE.value]:
            try:
                picture = open_picture(file.read_bytes())
                pixels.append(center_crop(picture, size, fraction=weights.eval_crop))
                readable.append(file)
            except OSError as error:
                failed += 1
                reason = error.strerror or error
                print(f"{file} is not a readable image ({reason})", file=sys.stderr)
        if not readable:
            continue
        # Every batch has the same shape, so that nothing is compiled twice.
        batch = np.zeros((min(BATCH_SIZE.value, len(files)), size, size, 3), np.uint8)
        batch[: len(pixels)] = pixels
        shares, best = jax.device_get(classify(params, batch))
        if start:  # the first one compiles
            seconds += time.perf_counter() - begin
            answered += len(readable)
        for file, row, indices in zip(readable, shares, best, strict=False):
            show(
                file, [(names[i], float(p)) for i, p in zip(indices, row, strict=True)]
            )
    if answered:
        print(f"{answered / seconds:.1f} images/s", file=sys.stderr)
    if failed:
        raise UserError(f"{failed} of {len(files)} files could not be read")


def expand(arguments: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files named, and all images in the folders named."""
    from nest.data.sources.folder import image_files

    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found = image_files(path)
            if not found:
                raise UserError(f"no image in the folder {path}")
            yield from found
        else:
            yield path


def show(file: Path, predictions: list[tuple[str, float]]) -> None:
    """Print an image's classes with their probabilities."""
    if JSON.value:
        rows = [{"class": name, "probability": p} for name, p in predictions]
        print(json.dumps({"file": str(file), "predictions": rows}), flush=True)
        return
    print(file)
    for name, probability in predictions:
        print(f"  {probability:7.2%}  {name}", flush=True)


if __name__ == "__main__":
    command.run(main, ("IMAGES...",))
