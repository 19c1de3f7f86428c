"""Evaluate a run or weights on a whole evaluation split; the last line is JSON.

python evaluate.py --config=configs/digits_nest.py --workdir=runs/digits_nest
python evaluate.py --config=configs/imagenet_nest.py --weights=FILE
python evaluate.py --config=configs/digits_generator.py
"""

from pathlib import Path

from absl import flags

from nest import command

CONFIG = command.define_config()
HOSTS = command.define_hosts()
WORKDIR = flags.DEFINE_string("workdir", None, "Default: runs/<config name>.")
WEIGHTS = flags.DEFINE_string(
    "weights", None, "Weights in the place of a run: whatever nest.weights reads."
)
CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "best, latest or a step.")


def main() -> None:
    """Run the evaluation that config.task names."""
    from nest.errors import UserError
    from nest.generation import evaluation as gan_evaluation
    from nest.training import classifier_evaluation, hosts, workdir

    evaluations = {"classifier": classifier_evaluation, "gan": gan_evaluation}
    config = CONFIG.value
    if config.task not in evaluations:
        raise UserError(f"no task {config.task!r}; there are: {', '.join(evaluations)}")
    evaluation = evaluations[config.task]
    if WEIGHTS.value and WORKDIR.value:
        raise UserError("give either --weights or --workdir")
    if WEIGHTS.value and config.task != "classifier":
        raise UserError("--weights is for classifiers; give a generator's --workdir")
    facts = {"--checkpoint": CHECKPOINT.value, "--weights": WEIGHTS.value}
    with hosts.joined(facts | workdir.common_fields(config), **HOSTS()):
        if WEIGHTS.value:
            evaluation.evaluate_weights(config, WEIGHTS.value)
        else:
            path = Path(WORKDIR.value or command.default_workdir())
            evaluation.evaluate_checkpoint(config, path, CHECKPOINT.value)


if __name__ == "__main__":
    command.run(main)
