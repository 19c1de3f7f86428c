"""A table at a scale in a folder: choosing rows, running them, writing what exists."""

import dataclasses
import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from nest.errors import UserError
from nest.tables import generators as generators_table
from nest.tables.collect import Result, collect
from nest.tables.costs import measured, measurement, model_name, train_command
from nest.tables.render import markdown, picture
from nest.tables.rows import TABLES
from nest.tables.runs import Run, run_all
from nest.tables.scales import SCALES, Scale, scaled
from nest.tables.table import Row, Table


@dataclasses.dataclass(frozen=True)
class Edition:
    """A table, whole or at a smaller scale.

    Attributes:
      rows: with the scale's overrides.
      folder: rows' runs lie in ROW/seedN, shared by all tables that have the row.
      settings: "FIELD=VALUE" of every config.
    """

    table: Table
    rows: tuple[Row, ...]
    folder: Path
    scale: Scale | None
    settings: tuple[str, ...]

    def choose(self, names: Sequence[str]) -> list[Row]:
        """Return the rows of these names; "all" is every one that can run here.

        Raises:
          UserError: there is no such row, or nothing here trains it.
        """
        by_name = {row.name: row for row in self.rows}
        if list(names) == ["all"]:
            return [row for row in self.rows if row.config]
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
        """Run the rows with the seeds; see `run_all`."""
        runs = [self._run(row, seed) for row in rows for seed in seeds]
        run_all(runs, jobs=jobs)

    def measure(self, rows: Sequence[Row], *, steps: int, batch_size: int) -> None:
        """Time the training steps of the rows (all, if none), one after the other."""
        if steps < 3:
            raise UserError(f"--measure={steps} is too few steps; give 3 or more")
        runs = [
            measurement(
                row, self._speed_folder(row), steps=steps, batch_size=batch_size
            )
            for row in rows or self.choose(["all"])
        ]
        run_all(runs, jobs=1)

    def write(self) -> tuple[Path, Path]:
        """Write TABLE.md and TABLE.png from what exists."""
        results = {row.name: self._results(row) for row in self.rows}
        speeds = {row.name: self._speed(row) for row in self.rows}
        title = self.scale.title if self.scale else ""
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
            )
            + "\n"
        )
        image = text.with_suffix(".png")
        picture(self.table, self.rows, results, scale=title).save(image)
        return text, image

    def _command(self, row: Row) -> str:
        """What a reader types: the training, or this program at a smaller scale."""
        if self.scale is None:
            command = train_command(row.config, dict(row.overrides))
            return shlex.join(["python", *command])
        return (
            f"python scripts/reproduce.py {self.table.name} --scale={self.scale.name} "
            f"--rows={row.name}"
        )

    def _run(self, row: Row, seed: int) -> Run:
        # A field stands once: the command line appends to a tuple given twice.
        overrides = dict(row.overrides) | {"seed": seed}
        overrides |= dict(setting.split("=", 1) for setting in self.settings)
        train = train_command(row.config, overrides)
        commands = [train]
        if row.method:
            method = f"--config.localization.method={row.method}"
            commands.append(("evaluate.py", *train[1:], method))
        folder = self.folder / row.name / f"seed{seed}"
        return Run(f"{row.name}, seed {seed}", folder, tuple(commands))

    def _results(self, row: Row) -> list[Result]:
        metric = "localization.top1_localization_error" if row.method else "eval/top1"
        folders = sorted((self.folder / row.name).glob("seed*"))
        found = []
        for folder in folders:
            starts = Run(row.name, folder, ()).starts()
            commands = dict.fromkeys(tuple(start["command"]) for start in starts)
            run = Run(row.name, folder, tuple(commands))
            result = collect(run, metric)
            if result is not None:
                complete = len(commands) == 1 + bool(row.method)
                found.append(
                    dataclasses.replace(result, finished=result.finished and complete)
                )
        return found

    def _speed_folder(self, row: Row) -> Path:
        return self.folder / row.name / "speed"

    def _speed(self, row: Row) -> Result | None:
        folder = self._speed_folder(row)
        starts = Run(row.name, folder, ()).starts()
        commands = dict.fromkeys(tuple(start["command"]) for start in starts)
        return measured(Run(row.name, folder, tuple(commands)))


def edition(
    name: str, *, scale: str, folder: Path, settings: Sequence[str] = ()
) -> Edition:
    """Return a table at a scale ("" is the paper's own).

    Raises:
      UserError: there is no such table or scale, or a setting is not FIELD=VALUE.
    """
    if name not in TABLES:
        names = ", ".join([*TABLES, "generators"])
        raise UserError(f"no table {name!r}; there are: {names}")
    if scale and scale not in SCALES:
        raise UserError(f"no scale {scale!r}; there are: {', '.join(SCALES)}")
    for setting in settings:
        if "=" not in setting:
            raise UserError(f"--set={setting} is not FIELD=VALUE")
    table = TABLES[name]
    if not scale:
        return Edition(table, table.rows, folder, None, tuple(settings))
    rows = tuple(
        scaled(row, SCALES[scale], model=model_name(row.config))
        for row in table.rows
        if row.config
    )
    return Edition(table, rows, folder / scale, SCALES[scale], tuple(settings))


def read_seeds(texts: Sequence[str]) -> list[int]:
    """Return seeds as numbers, or raise UserError."""
    try:
        seeds = [int(text) for text in texts]
    except ValueError as error:
        raise UserError(
            f"--seeds={','.join(texts)}: seeds are whole numbers"
        ) from error
    if len(set(seeds)) < len(seeds) or min(seeds, default=0) < 0:
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
    text = generators_table.markdown(json.loads(file.read_text()))
    (folder / "generators.md").write_text(text + "\n")
    return text
