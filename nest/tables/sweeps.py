"""Sweeps over fields of a config: which trials there are, and what came out of them."""

import hashlib
import itertools
import math
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_collections
from PIL import Image

from nest.errors import UserError
from nest.tables import plot
from nest.tables.collect import Result, metrics
from nest.tables.render import duration
from nest.tables.runs import Run
from nest.tables.settings import flat_fields

Trial = dict[str, str]  # field to value, as on the command line
LONGEST_NAME = 150  # of a folder, characters; file systems allow 255 bytes
RANGE = re.compile(r"(.+)\.\.(.+)")


def read_axes(
    arguments: Sequence[str], config: ml_collections.ConfigDict
) -> dict[str, list[str]]:
    """Read "FIELD=a,b,c" arguments; commas in brackets do not separate.

    Raises:
      UserError: an argument of another form, no such field, or one that is given twice.
    """
    fields = dict(flat_fields(config))
    axes: dict[str, list[str]] = {}
    for argument in arguments:
        field, equals, values = argument.partition("=")
        field = field.removeprefix("--").removeprefix("config.")
        if not equals or not values:
            raise UserError(f"{argument!r} is not FIELD=VALUE,VALUE,...")
        if field not in fields:
            raise UserError(
                f"the config has no field {field!r}; there are: {', '.join(fields)}"
            )
        if field in axes:
            raise UserError(f"the field {field} is given twice")
        axes[field] = _split(values)
        if len(set(axes[field])) < len(axes[field]) or "" in axes[field]:
            raise UserError(f"{argument!r} has an empty value or one twice")
    return axes


def grid(axes: Mapping[str, Sequence[str]]) -> list[Trial]:
    """Return every combination.

    Raises:
      UserError: a range "LOW..HIGH", of which a grid cannot be made.
    """
    for field, values in axes.items():
        if any(RANGE.fullmatch(value) for value in values):
            raise UserError(
                f"{field}={','.join(values)} is a range; draw from it with --random=N"
            )
    combinations = itertools.product(*axes.values())
    return [dict(zip(axes, values, strict=True)) for values in combinations]


def draw(axes: Mapping[str, Sequence[str]], count: int, *, seed: int) -> list[Trial]:
    """Draw `count` different trials: trial i is the same for any larger count.

    A range "LOW..HIGH" is drawn from with a uniform logarithm, to three digits.

    Raises:
      UserError: a range that is not of positive numbers, or fewer combinations than
        trials.
    """
    rng = random.Random(seed)
    trials: list[Trial] = []
    for _ in range(100 * count):
        trial = {field: _pick(field, values, rng) for field, values in axes.items()}
        if trial not in trials:
            trials.append(trial)
        if len(trials) == count:
            return trials
    raise UserError(f"--random={count}: there are only {len(trials)} combinations")


def trial_runs(
    trials: Sequence[Trial], config_arguments: Sequence[str], folder: Path
) -> list[Run]:
    """Return one run per trial, each in a folder called after its values.

    Args:
      config_arguments: --config=FILE and the --config.FIELD=VALUE of all trials.

    Raises:
      UserError: a field of both, or two trials that are the same.
    """
    fixed = {x.partition("=")[0].removeprefix("--config.") for x in config_arguments}
    for field in fixed.intersection(trials[0]):
        raise UserError(f"the field {field} is given twice, once for all trials")
    runs = []
    for trial in trials:
        name = ",".join(f"{field}={value}" for field, value in trial.items())
        fields = (f"--config.{field}={value}" for field, value in trial.items())
        place = folder / _folder_name(name)
        if place in (run.folder for run in runs):
            raise UserError(f"the trial {name} is there twice")
        runs.append(Run(name, place, (("train.py", *config_arguments, *fields),)))
    return runs


def config_arguments(arguments: Sequence[str]) -> list[str]:
    """What a command line says of the config, for train.py.

    Raises:
      UserError: something of it in another form than --config...=VALUE.
    """
    flagged = itertools.takewhile(lambda argument: argument != "--", arguments)
    given = [x for x in flagged if re.match(r"--?(no)?config(\.[^=]*)?(=|$)", x)]
    for argument in given:
        if not re.match("--config.*=", argument):
            raise UserError(
                f"write {argument} in one piece, and as --config=FILE or "
                f"--config.FIELD=VALUE"
            )
    return given


def sweep_name(
    config_arguments: Sequence[str], axes: Mapping[str, Sequence[str]], draws: str
) -> str:
    """Return a name for the table of a sweep, another one for every other sweep.

    Args:
      draws: what besides the axes chooses the trials.
    """
    text = repr((list(config_arguments), dict(axes), draws))
    return f"sweep-{_digest(text)}"


def _folder_name(name: str) -> str:
    """Return a trial's name without what folders cannot have in theirs."""
    plain = re.sub(r"[^\w.=,+-]", "_", name, flags=re.ASCII)
    if plain == name and len(name) <= LONGEST_NAME:
        return name
    return f"{plain[:LONGEST_NAME]}-{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def check_metric(metric: str, runs: Sequence[Run]) -> None:
    """Raise UserError if metrics were written, and in all runs other ones."""
    known = [name for run in runs for name in metrics(run)]
    if known and metric not in known:
        raise UserError(
            f"no trial has the metric {metric!r}; there are: "
            f"{', '.join(dict.fromkeys(known))}"
        )


def markdown(
    trials: Sequence[Trial], results: Sequence[Result | None], *, metric: str
) -> str:
    """Render the trials, the best first; `metric` is one where more is better unless
    its name ends in "loss"."""
    fields = list(trials[0])
    sign = 1 if metric.endswith("loss") else -1

    def order(pair: tuple[Trial, Result | None]) -> float:
        value = pair[1].value if pair[1] and pair[1].finished else None
        return math.inf if value is None or math.isnan(value) else sign * value

    lines = [
        f"| {' | '.join(fields)} | {metric} | state | hardware | wall time |",
        f"|{'---|' * len(fields)}---:|---|---|---:|",
    ]
    for trial, result in sorted(zip(trials, results, strict=True), key=order):
        cells = [trial[field] for field in fields]
        if result is None:
            cells += ["", "not run", "", ""]
        else:
            state = "finished" if result.finished else "stopped"
            value = "" if result.value is None else f"{result.value:.5g}"
            cells += [value, f"{state} at step {result.step}", result.hardware]
            cells.append(duration(result.seconds))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(
    trials: Sequence[Trial], results: Sequence[Result | None], *, metric: str
) -> Image.Image:
    """Draw the finished trials' metric, in the order given."""
    bars = [
        plot.Bar(
            ", ".join(
                f"{field.rpartition('.')[2]}={value}" for field, value in trial.items()
            ),
            [result.value]
            if result and result.finished and result.value is not None
            else [],
        )
        for trial, result in zip(trials, results, strict=True)
    ]
    return plot.draw("sweep", metric, bars)


def _split(values: str) -> list[str]:
    """Cut at commas outside of brackets."""
    parts, depth = [""], 0
    for letter in values:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _pick(field: str, values: Sequence[str], rng: random.Random) -> str:
    value = rng.choice(values)
    ends = RANGE.fullmatch(value)
    if not ends:
        return value
    try:
        low, high = (math.log(float(end)) for end in ends.groups())
    except ValueError as error:
        raise UserError(
            f"{field}={value}: the ends of a range are positive numbers"
        ) from error
    return f"{math.exp(rng.uniform(low, high)):.3g}"
