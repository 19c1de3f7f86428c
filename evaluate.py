"""Evaluate a run on its whole evaluation split; the last line printed is JSON.

python evaluate.py --config=configs/digits_nest.py --workdir=runs/digits_nest
"""

from pathlib import Path

from absl import flags

from nest import command

CONFIG = command.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Default: runs/<config name>.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "best, latest or a step.")


def main() -> None:
    """Run the evaluation that config.task names."""
    from nest.errors import UserError
    from nest.training import classifier

    evaluations = {"classifier": classifier.evaluate_checkpoint}
    config = CONFIG.value
    if config.task not in evaluations:
        raise UserError(f"no task {config.task!r}; there are: {', '.join(evaluations)}")
    path = Path(WORKDIR.value or command.default_workdir())
    evaluations[config.task](config, path, CHECKPOINT.value)


if __name__ == "__main__":
    command.run(main)
