"""Measure how faithful each explanation is to a trained classifier.

python scripts/evaluate_explanations.py --workdir=runs/digits_clutter

Prints a table of all methods, with 95 % bootstrap intervals over images:
  quarter    of 2x2 mosaics of test images, asked for the class of each: the share of
             questions where the largest quarter mean is the one that holds the class
  point      the largest value lies in the object's box, where the data has boxes
  deletion   mean probability of the class while the most important pixels go first
  insertion  the same while they come first
  shuffled   rank correlation with the map of the same model with shuffled weights of
             its head, of its head and top level, or all: an explanation of the model
             has to change with it
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags

from nest import command
from nest.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", "runs/digits_clutter", "Of the trained run.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "best, latest or a step.")
METHODS = flags.DEFINE_list(
    "methods", [], "Names in nest.explain.methods; all if none."
)
MOSAICS = flags.DEFINE_integer("mosaics", 500, "How many.", lower_bound=1)
EXAMPLES = flags.DEFINE_integer("examples", 500, "Test images, at most.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 8, "Of deletion and insertion.", lower_bound=1)
FILL = flags.DEFINE_enum("fill", "black", ["black", "mean"], "Of deleted pixels.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 50, "Images.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of mosaics and shuffled weights.")
OUT = flags.DEFINE_string("out", None, "JSON file for all figures.")


def main() -> None:
    """Measure every method and print the table."""
    from nest.explain import faithfulness, loading
    from nest.explain.comparison import Comparison, read_examples
    from nest.explain.methods import METHODS as ALL
    from nest.training.workdir import read_config

    names = METHODS.value or list(ALL)
    for name in names:
        if name not in ALL:
            raise UserError(f"no method {name!r}; there are: {', '.join(ALL)}")
    path = Path(WORKDIR.value)
    classifier = loading.load_workdir(path, CHECKPOINT.value)
    if len(classifier.model.levels) < 2:
        raise UserError(f"the model in {path} has one level, so there is no tree")
    examples = read_examples(
        read_config(path, task="classifier"),
        count=EXAMPLES.value,
        mosaics=MOSAICS.value,
        seed=SEED.value,
    )
    comparison = Comparison(
        classifier,
        examples,
        steps=STEPS.value,
        fill=FILL.value,
        batch_size=BATCH_SIZE.value,
        seed=SEED.value,
    )
    about = {
        "workdir": str(path),
        "images": len(examples.images),
        "top1": comparison.accuracy(),
        "mosaics": len(examples.grids),
    }
    print(
        f"{path}: {about['images']} images, top-1 {about['top1']:.2%}; "
        f"{about['mosaics']} mosaics, 4 questions each; 95 % bootstrap intervals\n",
        flush=True,
    )
    results = {}
    for name in names:
        scores = comparison.scores(name)
        results[name] = {
            key: faithfulness.bootstrap(values) for key, values in scores.items()
        }
        show(name, results[name], first=name == names[0])
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(about | {"methods": results}, indent=1))


def show(name: str, figures: dict, *, first: bool) -> None:
    """Print a row of the table, and its head before the first."""
    if first:
        print(f"| method | {' | '.join(figures)} |")
        print(f"|---|{'---:|' * len(figures)}")
    cells = []
    for key, (mean, low, high) in figures.items():
        scale, digits = (100, 1) if key in ("quarter", "point") else (1, 3)
        mean, low, high = (f"{scale * x:.{digits}f}" for x in (mean, low, high))
        cells.append(f"{mean} ({low}-{high})")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    command.run(main)
