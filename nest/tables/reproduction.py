"""A table at a scale in a folder: choosing rows, running them, writing what exists."""

import dataclasses
import json
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from nest.errors import UserError
from nest.tables import generators as generators_table
from nest.tables.collect import Result, collect
from nest.tables.costs import (
    MEASUREMENT_FIELDS,
    load_config,
    measurement,
    model_name,
    train_command,
)
from nest.tables.render import markdown, picture
from nest.tables.rows import TABLES
from nest.tables.runs import ROOT, Run, run_all
from nest.tables.scales import SCALES, Scale, scaled
from nest.tables.settings import PLACES, differences, read_settings
from nest.tables.table import Row, Table

SOURCES_WITH_BOXES = ("clutter",)


@dataclasses.dataclass(frozen=True)
class Edition:
    """A table, whole or at a smaller scale.

    Attributes:
      rows: with the scale's overrides.
      folder: rows' runs lie in ROW/seedN, shared by all tables that have the row.
      settings: fields of every config and their values, besides the rows' own.
    """

    table: Table
    rows: tuple[Row, ...]
    folder: Path
    scale: Scale | None
    settings: Mapping[str, str]

    def choose(self, names: Sequence[str]) -> list[Row]:
        """Return the rows of these names; "all" is every one that can run here.

        Raises:
          UserError: there is no such row, or nothing here trains it.
        """
        by_name = {row.name: row for row in self.rows}
        if list(names) == ["all"]:
            return [row for row in self.rows if row.config]
        if "all" in names:
            raise UserError(
                f"--rows={','.join(names)}: all is every row; give it alone"
            )
        for name in names:
            if name not in by_name:
                raise UserError(
                    f"no row {name!r} in the table {self.table.name}; there are: "
                    f"{', '.join(by_name)}"
                )
            if not by_name[name].config:
                raise UserError(
                    f"the row {name} cannot be run here: only the paper's number of "
                    f"it is known"
                )
        return [by_name[name] for name in names]

    def run(self, rows: Iterable[Row], *, seeds: Sequence[int], jobs: int) -> None:
        """Run the rows with the seeds; see `run_all`.

        Raises:
          UserError: what comes after the training would find no boxes.
        """
        rows = list(rows)
        for row in rows:
            self._check_boxes(row)
        runs = [self._run(row, seed) for row in rows for seed in seeds]
        run_all(runs, jobs=jobs)

    def measure(self, rows: Sequence[Row], *, steps: int, batch_size: int) -> None:
        """Time the training steps of the rows (all, if none), one after the other."""
        if steps < 3:
            raise UserError(f"--measure={steps} is too few steps; give 3 or more")
        runs = [
            self._measurement(row, steps=steps, batch_size=batch_size)
            for row in rows or self.choose(["all"])
        ]
        run_all(runs, jobs=1)

    def write(self) -> tuple[Path, Path]:
        """Write TABLE.md and TABLE.png from what exists."""
        results = {row.name: self._results(row) for row in self.rows}
        speeds = {row.name: self._speed(row) for row in self.rows}
        title = self.scale.title if self.scale else ""
        settings = ", ".join(f"{field}={x}" for field, x in self.settings.items())
        self.folder.mkdir(parents=True, exist_ok=True)
        text = self.folder / f"{self.table.name}.md"
        text.write_text(
            markdown(
                self.table,
                self.rows,
                results,
                speeds,
                commands={row.name: self._command(row) for row in self.rows},
                scale=title,
                settings=settings,
            )
            + "\n"
        )
        image = text.with_suffix(".png")
        drawn = picture(self.table, self.rows, results, scale=title, settings=settings)
        drawn.save(image)
        return text, image

    def _command(self, row: Row) -> str:
        """What a reader types to run a row again."""
        seeds = [seed for seed, _ in self._seeds(row)] or [0]
        command = ["python", "scripts/reproduce.py", self.table.name]
        command += [f"--scale={self.scale.name}"] if self.scale else []
        command += [f"--rows={row.name}", f"--seeds={','.join(map(str, seeds))}"]
        command += [f"--set={field}={x}" for field, x in self.settings.items()]
        return shlex.join(command)

    def _check_boxes(self, row: Row) -> None:
        if not row.method:
            return
        file = self.settings.get("localization.boxes", "")
        if file and not (ROOT / Path(file).expanduser()).exists():
            raise UserError(f"--set=localization.boxes={file}: there is no such file")
        own = load_config(row).data.source
        source = self.settings.get("data.source", own)
        if not file and source not in SOURCES_WITH_BOXES:
            raise UserError(
                f"the row {row.name} needs boxes, which data.source={source} has not; "
                f"give --set=localization.boxes=FILE, a CSV or ImageNet's XML archive, "
                f"or --scale=clutter"
            )

    def _run(self, row: Row, seed: int) -> Run:
        # A field stands once: the command line appends to a tuple given twice.
        overrides = dict(row.overrides) | {"seed": seed} | dict(self.settings)
        train = train_command(row.config, overrides)
        commands = [train]
        if row.method:
            method = f"--config.localization.method={row.method}"
            commands.append(("evaluate.py", *train[1:], method))
        folder = self.folder / row.name / f"seed{seed}"
        return Run(f"{row.name}, seed {seed}", folder, tuple(commands))

    def _seeds(self, row: Row) -> list[tuple[int, Path]]:
        """The seeds that were started, and their folders."""
        folders = (self.folder / row.name).glob("seed*")
        found = [(folder.name.removeprefix("seed"), folder) for folder in folders]
        return sorted((int(seed), folder) for seed, folder in found if seed.isdigit())

    def _results(self, row: Row) -> list[Result]:
        metric = "localization.top1_localization_error" if row.method else "eval/top1"
        found = [
            _result(self._run(row, seed), metric, aside=PLACES)
            for seed, _ in self._seeds(row)
        ]
        return [result for result in found if result is not None]

    def _measurement(self, row: Row, *, steps: int, batch_size: int) -> Run:
        folder = self.folder / row.name / "speed"
        return measurement(
            row, folder, steps=steps, batch_size=batch_size, settings=self.settings
        )

    def _speed(self, row: Row) -> Result | None:
        if not row.config:
            return None
        expected = self._measurement(row, steps=3, batch_size=0)
        aside = (*PLACES, *MEASUREMENT_FIELDS)
        result = _result(expected, "eval/top1", aside=aside)
        return result if result and result.finished and not result.differs else None


def _result(expected: Run, metric: str, *, aside: Collection[str]) -> Result | None:
    """What is in the folder of a run, whose commands may differ in fields `aside`."""
    starts = Run(expected.name, expected.folder, ()).starts()
    recorded = list(dict.fromkeys(tuple(start["command"]) for start in starts))
    by_program = {command[0]: command for command in expected.commands}
    differ = [
        text
        for command in recorded
        for text in differences(command, by_program.get(command[0], ()), aside=aside)
    ]
    begun = {command[0] for command in recorded}
    waiting = [
        command for program, command in by_program.items() if program not in begun
    ]
    run = Run(expected.name, expected.folder, (*recorded, *waiting))
    result = collect(run, metric)
    if result is None:
        return None
    return dataclasses.replace(result, differs=", ".join(dict.fromkeys(differ)))


def edition(
    name: str, *, scale: str, folder: Path, settings: Sequence[str] = ()
) -> Edition:
    """Return a table at a scale ("" is the paper's own).

    Raises:
      UserError: there is no such table or scale, or a setting is none; see
        `read_settings`.
    """
    if name not in TABLES:
        names = ", ".join([*TABLES, "generators"])
        raise UserError(f"no table {name!r}; there are: {names}")
    if scale and scale not in SCALES:
        raise UserError(f"no scale {scale!r}; there are: {', '.join(SCALES)}")
    table = TABLES[name]
    if not scale:
        changed = read_settings(settings, table.rows)
        return Edition(table, table.rows, folder, None, changed)
    rows = tuple(
        scaled(row, SCALES[scale], model=model_name(row.config))
        for row in table.rows
        if row.config
    )
    changed = read_settings(settings, rows)
    return Edition(table, rows, folder / scale, SCALES[scale], changed)


def read_seeds(texts: Sequence[str]) -> list[int]:
    """Return seeds as numbers, or raise UserError."""
    try:
        seeds = [int(text) for text in texts]
    except ValueError as error:
        raise UserError(
            f"--seeds={','.join(texts)}: seeds are whole numbers"
        ) from error
    if not seeds:
        raise UserError("--seeds= is empty; give one seed or more")
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"--seeds={','.join(texts)}: seeds differ and are 0 or more")
    return seeds


def generators(folder: Path, *, run: Sequence[str], scale: str) -> str:
    """Run the comparison of the generators, if asked to, and return its table.

    Args:
      run: names of generators, in one process, where they take turns; ["all"] is the
        paper's three.

    Raises:
      UserError: an unknown one, or a scale: generation needs no dataset.
    """
    if scale:
        raise UserError(
            "the table generators has no smaller scale: it needs no dataset; see "
            "scripts/benchmark_generators.py --help for smaller batches"
        )
    known = generators_table.PUBLISHED
    for name in run:
        if name == "all" and len(run) > 1:
            raise UserError(f"--rows={','.join(run)}: all is every row; give it alone")
        if name not in (*known, "all"):
            raise UserError(
                f"no row {name!r} in the table generators; there are: "
                f"{', '.join(known)}"
            )
    place = folder / "generators"
    file = place / "figures.json"
    if run:
        names = list(known) if "all" in run else run
        arguments = (f"--names={','.join(names)}", f"--json={file.resolve()}")
        command = ("scripts/benchmark_generators.py", *arguments)
        run_all([Run("generators", place, (command,), workdir=False)], jobs=1)
    if not file.exists():
        return "generators: not run; add --rows=all"
    report = json.loads(file.read_text())
    rows = list(dict.fromkeys(row["name"] for row in report["rows"]))
    names = "all" if rows == list(known) else ",".join(rows)
    command = f"python scripts/reproduce.py generators --rows={names}"
    text = generators_table.markdown(report, command=command)
    table = folder / "generators.md"
    table.write_text(text + "\n")
    image = table.with_suffix(".png")
    generators_table.picture(report).save(image)
    return f"{text}\n\n{table}, {image}"
