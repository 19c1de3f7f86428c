"""What a table is made of: rows, each with what is run and what the paper says of it.

Numbers of the paper and how sure they are: "abstract" (stated in the abstract or result
page), "released code" (read from or computed with it), "second-hand", "unknown".
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

SOURCES = ("abstract", "released code", "second-hand", "unknown")


@dataclasses.dataclass(frozen=True)
class Published:
    """A number of the paper, None where it is not known, and one of `SOURCES`."""

    value: float | None = None
    source: str = "unknown"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
      name: what --rows asks for; rows of one name in several tables are one run.
      title: how the table calls it.
      config: "FILE:ARGUMENT", or "" where nothing here trains it.
      overrides: fields of the config and their values: what the row changes.
      paper: the table's figure, in %.
      parameters, multiply_adds: the paper's; the latter in billions.
      classes, examples: of the training split.
      epochs: of the whole training.
      method: of `nest.explain.methods`, where localization is measured after training.
    """

    name: str
    title: str
    config: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    paper: Published = Published()
    parameters: Published = Published()
    multiply_adds: Published = Published()
    classes: int = 1000
    examples: int = 0
    epochs: float = 300.0
    method: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows that belong together.

    Attributes:
      name, title: what it is asked for by, and its headline.
      figure: what is compared: "top-1 accuracy" or "top-1 localization error", in %.
      rows: in the order of the paper.
      note: what a reader has to know, in one line.
    """

    name: str
    title: str
    figure: str
    rows: tuple[Row, ...]
    note: str = ""
