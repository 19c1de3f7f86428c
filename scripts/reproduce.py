"""Run and render a table of the paper: python scripts/reproduce.py TABLE

python scripts/reproduce.py imagenet                      (what is there; runs nothing)
python scripts/reproduce.py cifar10 --rows=cifar10_nest_tiny --seeds=0,1,2
python scripts/reproduce.py aggregation --scale=digits --rows=all --seeds=0,1,2 --jobs=2
python scripts/reproduce.py imagenet --rows=all --measure=30     (what each row costs)

Tables: cifar10, cifar100, imagenet, epochs, augmentation, aggregation, localization and
generators. The same command goes on where it was stopped. A finished row is not run
again. Results are in FOLDER/TABLE.md and FOLDER/TABLE.png; with --scale, in
FOLDER/SCALE. A run with --set counts in the table only where the same --set is given,
but for places of data; the table says so.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags

from nest import command

ROWS = flags.DEFINE_list("rows", [], 'Names of rows to run; "all" is every one.')
SEEDS = flags.DEFINE_list("seeds", ["0"], "Each row runs once with each.")
JOBS = flags.DEFINE_integer("jobs", 1, "Runs at the same time.", lower_bound=1)
SCALE = flags.DEFINE_string("scale", "", "A smaller edition: digits or clutter.")
MEASURE = flags.DEFINE_integer(
    "measure", 0, "Instead of running, time so many steps of the rows.", lower_bound=0
)
MEASURE_BATCH = flags.DEFINE_integer("measure_batch", 0, "Images; 0: the row's own.")
SET = flags.DEFINE_multi_string(
    "set", [], "FIELD=VALUE of every row's config, data.data_dir=DIR say."
)
FOLDER = flags.DEFINE_string("folder", "runs/tables", "Where runs and tables lie.")


def main(name: str) -> None:
    """Run what is asked for, then render what exists."""
    if name == "generators":
        refuse_flags("seeds", "jobs", "measure", "measure_batch", "set")
    from nest.tables import reproduction

    folder = Path(FOLDER.value)
    if name == "generators":
        print(reproduction.generators(folder, run=ROWS.value, scale=SCALE.value))
        return
    edition = reproduction.edition(
        name, scale=SCALE.value, folder=folder, settings=SET.value
    )
    seeds = reproduction.read_seeds(SEEDS.value)
    rows = edition.choose(ROWS.value)
    try:
        if MEASURE.value:
            edition.measure(rows, steps=MEASURE.value, batch_size=MEASURE_BATCH.value)
        elif rows:
            edition.run(rows, seeds=seeds, jobs=JOBS.value)
    finally:
        text, image = edition.write()
    print(f"\n{text.read_text()}\n{text}, {image}")


def refuse_flags(*names: str) -> None:
    """Raise UserError for a flag that the table of the generators has no use for."""
    from nest.errors import UserError

    for name in names:
        if flags.FLAGS[name].present:
            raise UserError(
                f"the table generators has no --{name}: it trains nothing; see "
                f"scripts/benchmark_generators.py --help for what can be set"
            )


if __name__ == "__main__":
    command.run(main, ("TABLE",))
