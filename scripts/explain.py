"""Show why a trained classifier decides as it does: GradCAT and heat maps.

python scripts/explain.py IMAGES... --workdir=runs/digits_nest --out=explained
python scripts/explain.py IMAGES... --weights=FILE

Without IMAGES, the first ones of the run's evaluation split. The folder --out gets a
PNG per image, one page for all, index.html, which needs nothing else, and all numbers
in explained.json.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags

from nest import command
from nest.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", "runs/digits_nest", "Of the trained run.")
WEIGHTS = flags.DEFINE_string(
    "weights", None, "In the place of a run: whatever nest.weights reads."
)
CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "best, latest or a step.")
CLASSES = flags.DEFINE_list("classes", [], "Names or numbers; else the most likely.")
TOP = flags.DEFINE_integer("top", 3, "How many of the most likely.", lower_bound=1)
PATHS = flags.DEFINE_integer("paths", 3, "Best paths to list.", lower_bound=1)
MINUS = flags.DEFINE_boolean("minus", False, "The sign of the paper's Algorithm 1.")
EXAMPLES = flags.DEFINE_integer("examples", 4, "Images of the split.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Images.", lower_bound=1)
OUT = flags.DEFINE_string("out", "explained", "Folder to write to.")


def main(*arguments: str) -> None:
    """Explain the images and write the pictures, the page and the numbers."""
    import numpy as np

    from nest.explain import inputs, loading
    from nest.explain.page import build_page
    from nest.explain.pictures import draw
    from nest.explain.report import explain_images

    workdir = Path(WORKDIR.value)
    if WEIGHTS.value:
        if not arguments:
            raise UserError("--weights come without images: name some")
        classifier = loading.load_weights(WEIGHTS.value)
    else:
        classifier = loading.load_workdir(workdir, CHECKPOINT.value)
    if len(classifier.model.levels) < 2:
        raise UserError(
            f"the model of {WEIGHTS.value or workdir} has one level, so there is no "
            f"tree to walk down; explain one with several"
        )
    classes = inputs.find_classes(
        CLASSES.value, classifier.class_names, most_likely=TOP.value
    )
    if arguments:
        images = inputs.read_images(list(arguments), classifier)
    else:
        images = inputs.read_split(workdir, classifier, EXAMPLES.value)
    out = Path(OUT.value)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {out} ({error}); give another --out") from error
    explanations = explain_images(
        classifier,
        ((pixels, np.array(classes, np.int32)) for _, pixels in images),
        width=PATHS.value,
        sign=-1 if MINUS.value else 1,
        batch_size=min(BATCH_SIZE.value, len(images)),
    )
    explained = []
    for i, ((name, pixels), each) in enumerate(zip(images, explanations, strict=True)):
        draw(pixels, each).save(out / f"{i:03d}.png")
        explained.append((name, pixels, each))
        best = each["classes"][0]
        walk = " -> ".join(
            f"({block['row']}, {block['column']})" for block in best["path"]
        )
        print(f"{name}: {best['name']} {best['probability']:.1%}  {walk}")
    (out / "index.html").write_text(build_page(explained))
    numbers = [{"image": name} | each for name, _, each in explained]
    (out / "explained.json").write_text(json.dumps(numbers) + "\n")
    print(f"{out / 'index.html'}, {out / 'explained.json'} and a PNG per image")


if __name__ == "__main__":
    command.run(main, ("[IMAGES...]",))
