"""How train.py, evaluate.py and the scripts start: flags in, one line per error out."""

import re
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from nest.errors import UserError, explain


def define_config() -> flags.FlagHolder:
    """Define --config, a file whose fields are set by --config.FIELD=VALUE."""
    return config_flags.DEFINE_config_file(
        "config",
        None,
        "Config file, for example configs/digits_nest.py; set a field by "
        "--config.FIELD=VALUE.",
        lock_config=True,
    )


def define_hosts() -> Callable[[], dict[str, Any]]:
    """Define the flags of a run of several processes.

    Returns:
      A function that gives them as arguments of `nest.training.hosts.joined`.
    """
    holders = {
        "coordinator": flags.DEFINE_string(
            "coordinator",
            None,
            "HOST:PORT of process 0, the same for all processes; PORT + 1 is used, "
            "too. TPU pods and SLURM steps need none of these flags.",
        ),
        "num_processes": flags.DEFINE_integer(
            "num_processes", None, "How many processes there are.", lower_bound=1
        ),
        "process_id": flags.DEFINE_integer(
            "process_id", None, "Which of them this is, from 0.", lower_bound=0
        ),
        "arrival_timeout": flags.DEFINE_float(
            "arrival_timeout",
            300,
            "Seconds within which all processes have to come.",
            lower_bound=1,
        ),
        "peer_timeout": flags.DEFINE_float(
            "peer_timeout",
            60,
            "Seconds of silence after which a process counts as lost and all end.",
            lower_bound=1,
        ),
    }
    return lambda: {name: holder.value for name, holder in holders.items()}


def default_workdir() -> Path:
    """Return runs/<config name>, with the argument after the colon if there is one."""
    file, _, argument = flags.FLAGS["config"].config_filename.partition(":")
    return Path("runs") / "-".join(filter(None, [Path(file).stem, argument]))


def run(main: Callable[..., None], arguments: tuple[str, ...] = ()) -> None:
    """Parse the flags and call `main` with what stands on the command line besides.

    Args:
      arguments: a name for each of these, in capitals. The last stands for one or more
        when it ends with "...", and for none or more in brackets: "[IMAGES...]".

    A `UserError` ends the process with one line and status 1, a wrong flag with status
    2, Ctrl-C with status 130; only a mistake in the program shows a traceback.
    """
    app.run(
        lambda argv: _call(partial(main, *argv[1:])),
        flags_parser=partial(_parse, arguments=arguments),
    )


def _parse(argv: list[str], arguments: tuple[str, ...]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        _check_config_is_loaded()
    except (
        AttributeError,
        ImportError,
        KeyError,
        OSError,
        SyntaxError,
        TypeError,
        ValueError,
        flags.Error,
    ) as error:
        _fail(_one_line(error), 2)
    except UserError as error:
        _fail(str(error), 2)
    given = rest[1:]
    open_ended = bool(arguments) and "..." in arguments[-1]
    required = [name for name in arguments if not name.startswith("[")]
    if len(given) > len(arguments) and not open_ended:
        unexpected = given[len(arguments)]
        _fail(f"unexpected argument {unexpected!r}; flags begin with --", 2)
    if len(given) < len(required):
        _fail(f"give {' and '.join(required[len(given) :])}; see --help", 2)
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax tells every step of a save.
    return rest


def _call(main: Callable[[], None]) -> None:
    try:
        main()
    except BrokenPipeError:
        sys.stdout = None  # Whoever read the output has left.
        sys.exit(141)
    except (Exception, KeyboardInterrupt) as error:
        explained = explain(error)
        if explained is None:
            raise
        _fail(*explained)


def _check_config_is_loaded() -> None:
    """Raise UserError now: config_flags waits until the config is used."""
    if "config" not in flags.FLAGS:
        return
    flag = flags.FLAGS["config"]
    if flag.value is None:
        raise UserError("give a config, for example --config=configs/digits_nest.py")
    try:
        _ = flag.value.task
    except OSError as error:
        raise UserError(
            f"cannot open the config file {flag.config_filename}; see configs/"
        ) from error


def _one_line(error: BaseException) -> str:
    lines = str(error.args[0] if error.args else error).split("\n")
    if any(line.startswith("Traceback") for line in lines):
        lines = [line for line in lines if line.strip()][-1:]
    text = " ".join(" ".join(lines).replace("\\n", " ").split())
    if isinstance(error, AttributeError | KeyError):  # ml_collections, quoted twice
        return "no such config field: " + re.sub(r"^\W*(\w+)\W*", r"\1. ", text).rstrip(
            "' "
        )
    return text


def _fail(message: str, status: int) -> None:
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr, flush=True)
    # Libraries that hit the same trouble again as they are torn down stay silent.
    sys.unraisablehook = threading.excepthook = lambda _: None
    sys.exit(status)
