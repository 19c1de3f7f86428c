"""Train what a config describes: python train.py --config=configs/digits_nest.py"""

from pathlib import Path

from absl import flags

from nest import command

CONFIG = command.define_config()
HOSTS = command.define_hosts()
WORKDIR = flags.DEFINE_string("workdir", None, "Default: runs/<config name>.")


def main() -> None:
    """Run the loop that config.task names."""
    from nest.errors import UserError
    from nest.training import classifier, gan, hosts, workdir

    loops = {"classifier": classifier.train, "gan": gan.train}
    config = CONFIG.value
    if config.task not in loops:
        raise UserError(f"no task {config.task!r}; there are: {', '.join(loops)}")
    path = Path(WORKDIR.value or command.default_workdir())
    with hosts.joined(workdir.common_fields(config), **HOSTS()):
        loops[config.task](config, path)


if __name__ == "__main__":
    command.run(main)
