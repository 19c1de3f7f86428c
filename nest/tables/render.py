"""A table as Markdown and as a picture."""

from collections.abc import Iterable, Mapping, Sequence

from PIL import Image

from nest.tables import plot
from nest.tables.collect import Result, mean_and_spread
from nest.tables.costs import device_hours, model_costs
from nest.tables.table import Published, Row, Table

HEADER = (
    "| | paper | how sure | ours | hardware | wall time | cost of a run | parameters "
    "(paper) | multiply-adds (paper) | command |",
    "|---|---:|---|---:|---|---:|---:|---:|---:|---|",
)


def markdown(
    table: Table,
    rows: Sequence[Row],
    results: Mapping[str, Sequence[Result]],
    speeds: Mapping[str, Result],
    *,
    commands: Mapping[str, str],
    scale: str = "",
    settings: str = "",
) -> str:
    """Render a table.

    Args:
      commands: by row, what a reader types to run it.
      rows: the table's, scaled where `scale` is given.
      results: by row, one per seed that was started.
      speeds: by row, a measurement of its training step.
      scale: what the title has to say of a smaller edition.
      settings: what is changed in every row, "" for nothing.
    """
    title = f"{scale}. In the way of: {table.title}" if scale else table.title
    figure = f"{table.figure}, %"
    if scale:
        figure += "; the paper's are of the full scale"
    if settings:
        figure += f"; every row with {settings}"
    lines = [f"### {title}", "", f"{figure}; {table.note}".rstrip("; "), "", *HEADER]
    for row in rows:
        found = results.get(row.name, ())
        cells = (
            row.title,
            "" if row.paper.value is None else f"{row.paper.value:g}",
            row.paper.source,
            ours(found),
            _unique(x.hardware for x in found if x.finished and not x.differs),
            _wall_time(found),
            _cost(row, speeds.get(row.name), found),
            *_model(row),
            f"`{commands[row.name]}`" if row.config else "none here",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "ours: mean and sample standard deviation over seeds; wall time: mean of a "
        "run, all its starts together; cost: devices x hours at the measured step, "
        "without input and evaluation.",
    ]
    return "\n".join(lines)


def picture(
    table: Table,
    rows: Sequence[Row],
    results: Mapping[str, Sequence[Result]],
    *,
    scale: str = "",
    settings: str = "",
) -> Image.Image:
    """Draw a table; of a smaller edition without the paper's figures."""
    bars = [
        plot.Bar(
            row.title,
            [100 * x.value for x in results.get(row.name, ()) if x.counts],
            None if scale else row.paper.value,
        )
        for row in rows
    ]
    title = f"{table.title}" + (f" ({scale})" if scale else "")
    title += f"; {settings}" if settings else ""
    return plot.draw(title, f"{table.figure}, %", bars)


def ours(results: Sequence[Result]) -> str:
    """Say in a cell what came out: "not run", how far it came, or mean and spread.

    Runs that differ from the row are told besides, and do not count.
    """
    values = [100 * result.value for result in results if result.counts]
    told = []
    if values:
        mean, spread = mean_and_spread(values)
        several = "" if spread is None else f" ± {spread:.2f} ({len(values)} seeds)"
        told.append(f"{mean:.2f}{several}")
    told += [
        f"stopped at step {result.step}"
        for result in results
        if not result.finished and not result.differs
    ]
    told += dict.fromkeys(
        f"run with other settings: {result.differs}"
        for result in results
        if result.differs
    )
    return ", ".join(told) or "not run"


def _unique(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _wall_time(results: Sequence[Result]) -> str:
    seconds = [x.seconds for x in results if x.finished and not x.differs]
    if not seconds:
        return ""
    return duration(mean_and_spread(seconds)[0])


def duration(seconds: float) -> str:
    """Say a time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _cost(row: Row, speed: Result | None, results: Sequence[Result]) -> str:
    """From a measurement, else from the runs themselves."""
    for result in (speed, *(x for x in results if not x.differs)):
        hours = device_hours(row, result) if result else None
        if hours is not None:
            told = f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
            return (
                f"{told} h x device ({result.hardware}, "
                f"{result.images_per_second:,.0f} images/s)"
            )
    return "not measured"


def _model(row: Row) -> tuple[str, str]:
    """Parameters and multiply-adds, each beside the paper's."""
    if not row.config:
        return "", ""
    parameters, multiply_adds = model_costs(row)
    # A published 5.8 is a rounded one.
    same = row.parameters.value == parameters
    close = abs((row.multiply_adds.value or 0) - multiply_adds / 1e9) < 0.1
    unit = 1e9 if multiply_adds > 1e8 else 1e6
    letter = "G" if multiply_adds > 1e8 else "M"
    return (
        f"{parameters:,}{_beside(row.parameters, 'the same', same, ',')}",
        f"{multiply_adds / unit:.2f}{letter}"
        f"{_beside(row.multiply_adds, f'{row.multiply_adds.value}G', close, '')}",
    )


def _beside(published: Published, told: str, agrees: bool, form: str) -> str:
    if published.value is None:
        return ""
    if agrees:
        return f" ({told}, {published.source})"
    return f" (DIFFERS: {published.value:{form}}, {published.source})"
