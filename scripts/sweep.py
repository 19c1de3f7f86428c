"""Train a config with different values: a grid of them, or some at random.

python scripts/sweep.py --config=configs/digits_nest.py lr_per_256=4e-3,16e-3 seed=0,1
python scripts/sweep.py --config=configs/digits_nest.py --random=8 \
    lr_per_256=1e-3..1e-1 model.aggregation=conv_max_pool,patch_merging

A range LOW..HIGH is drawn from with a uniform logarithm. Every trial is a workdir in
FOLDER; the same command goes on where it was stopped, and with a larger --random adds
trials. The table and the plot are in FOLDER/sweep.md and FOLDER/sweep.png.
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

    given = config_arguments()
    axes = sweeps.read_axes(arguments, CONFIG.value)
    if RANDOM.value > 0:
        trials = sweeps.draw(axes, RANDOM.value, seed=SEED.value)
    else:
        trials = sweeps.grid(axes)
    folder = Path(FOLDER.value or Path("runs/sweeps") / command.default_workdir().name)
    runs = sweeps.trial_runs(trials, given, folder)

    def write() -> str:
        results = [collect(run, METRIC.value) for run in runs]
        text = sweeps.markdown(trials, results, metric=METRIC.value)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sweep.md").write_text(text + "\n")
        image = sweeps.picture(trials, results, metric=METRIC.value)
        image.save(folder / "sweep.png")
        return text

    try:
        run_all(runs, jobs=JOBS.value)
    finally:
        text = write()
    print(f"\n{text}\n\n{folder / 'sweep.md'}, {folder / 'sweep.png'}")


def config_arguments() -> list[str]:
    """What the command line says of the config, for train.py."""
    from nest.errors import UserError

    given = [x for x in sys.argv[1:] if x.partition("=")[0].startswith("--config")]
    for argument in given:
        if "=" not in argument:
            raise UserError(f"write {argument}=... in one piece")
    return given


if __name__ == "__main__":
    command.run(main, ("FIELD=VALUES...",))
