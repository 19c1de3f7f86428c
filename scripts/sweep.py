"""Train a config with different values: a grid of them, or some at random.

python scripts/sweep.py --config=configs/digits_nest.py lr_per_256=4e-3,16e-3 seed=0,1
python scripts/sweep.py --config=configs/digits_nest.py --random=8 \
    lr_per_256=1e-3..1e-1 model.aggregation=conv_max_pool,patch_merging

A range LOW..HIGH is drawn from with a uniform logarithm. Every trial is a workdir in
FOLDER; the same command goes on where it was stopped, and with a larger --random adds
trials. The table and the plot are in FOLDER/sweep-ID.md and FOLDER/sweep-ID.png, where
ID is another one for every other config and other fields and values.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags

from nest import command

CONFIG = command.define_config()
RANDOM = flags.DEFINE_integer("random", 0, "So many draws; 0: all combinations.")
SEED = flags.DEFINE_integer("seed", 0, "Of the draws.")
JOBS = flags.DEFINE_integer("jobs", 1, "Runs at the same time.", lower_bound=1)
METRIC = flags.DEFINE_string("metric", "eval/top1", "Of metrics.jsonl; the last one.")
FOLDER = flags.DEFINE_string("folder", None, "Default: runs/sweeps/<config name>.")


def main(*arguments: str) -> None:
    """Run the trials, then write what exists."""
    from nest.tables import sweeps
    from nest.tables.collect import collect
    from nest.tables.runs import run_all

    given = sweeps.config_arguments(sys.argv[1:])
    axes = sweeps.read_axes(arguments, CONFIG.value)
    if RANDOM.value > 0:
        trials = sweeps.draw(axes, RANDOM.value, seed=SEED.value)
    else:
        trials = sweeps.grid(axes)
    folder = Path(FOLDER.value or Path("runs/sweeps") / command.default_workdir().name)
    runs = sweeps.trial_runs(trials, given, folder)
    draws = f"drawn with {SEED.value}" if RANDOM.value > 0 else ""
    table = folder / f"{sweeps.sweep_name(given, axes, draws)}.md"

    def write() -> str:
        results = [collect(run, METRIC.value) for run in runs]
        text = sweeps.markdown(trials, results, metric=METRIC.value)
        folder.mkdir(parents=True, exist_ok=True)
        table.write_text(text + "\n")
        image = sweeps.picture(trials, results, metric=METRIC.value)
        image.save(table.with_suffix(".png"))
        return text

    try:
        run_all(runs, jobs=JOBS.value)
    finally:
        text = write()
    print(f"\n{text}\n\n{table}, {table.with_suffix('.png')}")
    sweeps.check_metric(METRIC.value, runs)


if __name__ == "__main__":
    command.run(main, ("FIELD=VALUES...",))
