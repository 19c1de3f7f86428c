"""Fields that --set changes in every row, and in which fields two commands differ."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import ml_collections

from nest.errors import UserError
from nest.tables.costs import load_config
from nest.tables.table import Row

# What says where data lie and how fast they are read, and not what is trained.
PLACES = ("data.data_dir", "data.threads", "localization.boxes")


def flat_fields(
    config: ml_collections.ConfigDict, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield every field, "model.name" say, and its value."""
    for field in config:
        value = config.get_oneway_ref(field).get()
        if isinstance(value, ml_collections.ConfigDict):
            yield from flat_fields(value, f"{prefix}{field}.")
        else:
            yield prefix + field, value


def read_settings(texts: Sequence[str], rows: Iterable[Row]) -> dict[str, str]:
    """Read "FIELD=VALUE" texts; a field given twice has the last value.

    Raises:
      UserError: one is of another form, no field of a row's config, or the seed.
    """
    settings = {}
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set={text} is not FIELD=VALUE")
        if field == "seed":
            raise UserError(f"--set={text}: give seeds by --seeds={value or 0}")
        settings[field] = value
    for row in rows:
        fields = dict(flat_fields(load_config(row))) if row.config else settings
        for field in settings:
            if field not in fields:
                raise UserError(
                    f"--set={field}={settings[field]}: the config of {row.name} has no "
                    f"field {field!r}; there are: {', '.join(fields)}"
                )
    return settings


def differences(
    recorded: Sequence[str], expected: Sequence[str], *, aside: Collection[str] = PLACES
) -> list[str]:
    """Return what a command that was run has otherwise than the expected one.

    Args:
      aside: fields that may differ.

    Returns:
      "FIELD=VALUE" as it was run, or "no FIELD=VALUE" for what was not given.
    """
    given, wanted = (
        [
            argument
            for argument in command
            if _text(argument).partition("=")[0] not in aside
        ]
        for command in (recorded, expected)
    )
    fields = {_text(argument).partition("=")[0] for argument in given}
    return [_text(x) for x in given if x not in wanted] + [
        f"no {_text(x)}" for x in wanted if _text(x).partition("=")[0] not in fields
    ]


def _text(argument: str) -> str:
    return argument.removeprefix("--").removeprefix("config.")
