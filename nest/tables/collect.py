"""What a run's folder tells: its result, how far it came, where and how long."""

import dataclasses
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nest.tables.runs import Run


@dataclasses.dataclass(frozen=True)
class Result:
    """Of one run.

    Attributes:
      finished: it ended well.
      step: of the last line of its metrics.
      value: of the metric; None before there is one.
      hardware: number and kind of its devices.
      devices: their number.
      seconds: wall time of all its starts.
      images_per_second: of training.
      differs: in what its command differs from the row's, "" where it does not; such a
        run is told, and does not count.
    """

    finished: bool
    step: int
    value: float | None
    hardware: str
    devices: int
    seconds: float
    images_per_second: float | None
    differs: str = ""

    @property
    def counts(self) -> bool:
        """Whether it is a whole run of what the row says, with a value."""
        return self.finished and self.value is not None and not self.differs


def collect(run: Run, metric: str) -> Result | None:
    """Read what a run left; None where nothing was started.

    Args:
      metric: a key of metrics.jsonl, "eval/top1" say, of which the last counts; or
        "a.b" in the JSON line that the last command ended with.
    """
    starts = run.starts()
    if not starts:
        return None
    lines = list(_lines(run.folder / "metrics.jsonl"))
    if "/" in metric:
        values = [line[metric] for line in lines if metric in line]
        value = values[-1] if values else None
    else:
        value = _printed(run.folder / "log.txt", metric)
    speeds = [
        line["train/images_per_second"]
        for line in lines
        if "train/images_per_second" in line
    ]
    hardware, devices = _hardware(run.folder / "environment.json")
    return Result(
        finished=not run.pending(),
        step=lines[-1]["step"] if lines else 0,
        value=value,
        hardware=hardware,
        devices=devices,
        seconds=run.seconds(),
        images_per_second=statistics.median(speeds) if speeds else None,
    )


def metrics(run: Run) -> list[str]:
    """Return the names of a run's metrics, those of metrics.jsonl."""
    lines = _lines(run.folder / "metrics.jsonl")
    return list(dict.fromkeys(name for line in lines for name in line if "/" in name))


def mean_and_spread(values: Iterable[float]) -> tuple[float, float | None]:
    """Return mean and sample standard deviation, None of a single value."""
    values = list(values)
    spread = statistics.stdev(values) if len(values) > 1 else None
    return statistics.mean(values), spread


def _lines(file: Path) -> Iterable[dict[str, Any]]:
    if not file.exists():
        return
    for line in file.read_text(errors="replace").splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue  # a line that a kill cut off, or one for people
        if isinstance(found, dict):
            yield found


def _printed(file: Path, metric: str) -> float | None:
    """Look a figure up in the last line of a log that is JSON."""
    found: Any = next(reversed(list(_lines(file))), None)
    for name in metric.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, int | float) else None


def _hardware(file: Path) -> tuple[str, int]:
    try:
        start = json.loads(file.read_text())[-1]
    except (OSError, ValueError, IndexError):
        return "unknown", 1
    if start["platform"] == "cpu":
        return f"{start['cpu_count']} CPU cores", start["device_count"]
    kind, count = start["device_kind"], start["device_count"]
    return f"{count}x {kind}", count
