"""nest.tables: the rows against what they claim, and what is written of them."""

import dataclasses
import json
import operator
from pathlib import Path

import pytest

from nest.errors import UserError
from nest.tables import reproduction
from nest.tables.collect import Result, collect, mean_and_spread
from nest.tables.costs import (
    device_hours,
    load_config,
    measurement,
    model_costs,
    model_name,
    train_command,
)
from nest.tables.render import duration, ours
from nest.tables.rows import TABLES
from nest.tables.runs import Run
from nest.tables.scales import SCALES, scaled
from nest.tables.table import SOURCES, Published, Row

ROWS = [row for table in TABLES.values() for row in table.rows]


def row(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


def small(name: str, scale: str = "digits") -> Row:
    found = row(name)
    return scaled(found, SCALES[scale], model=model_name(found.config))


def test_a_name_stands_for_one_run():
    runs = {}
    for each in ROWS:
        known = runs.setdefault(each.name, (each.config, each.overrides))
        assert known == (each.config, each.overrides)


def test_every_number_says_how_sure_it_is():
    for each in ROWS:
        for published in (each.paper, each.parameters, each.multiply_adds):
            assert published.source in SOURCES
            assert (published.value is None) == (published.source == "unknown")


@pytest.mark.parametrize("each", ROWS, ids=lambda row: row.name)
def test_every_override_is_a_field(each: Row):
    if each.config:
        config = load_config(each)
        assert config.num_epochs == each.epochs
        for field, value in each.overrides.items():
            assert operator.attrgetter(field)(config) == value


def test_the_smallest_published_count():
    assert model_costs(row("cifar10_nest_tiny"))[0] == 6_006_730


KINDS = (
    "cifar10_deit_tiny",
    "cifar10_swin_tiny",
    "cifar10_wrn_28_10",
    "cifar10_nest_tiny",
    "imagenet_resnet50",
    "block_plane",
)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_model_has_a_small_edition(name: str, scale: str):
    parameters, _ = model_costs(small(name, scale))
    assert parameters < 1_000_000


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("table", TABLES)
def test_small_editions_of_a_table_are_different_runs(table: str, scale: str):
    if table == "localization" and not SCALES[scale].boxes:
        return
    edition = reproduction.edition(table, scale=scale, folder=Path())
    configs = [load_config(each).to_dict() for each in edition.rows]
    for config in configs:  # the names of models alone make no other run
        config["model"].pop("name")
    for k, config in enumerate(configs):
        assert config not in configs[:k], edition.rows[k].name


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("family", ["cifar10_deit", "imagenet_nest"])
def test_small_editions_grow_with_the_size(family: str, scale: str):
    tiny, middle, base = (
        load_config(small(f"{family}_{size}", scale)).model.widths
        for size in ("tiny", "small", "base")
    )
    assert max(tiny) < max(middle) < max(base)


def test_a_small_edition_keeps_what_the_row_changes():
    whole, without = (
        load_config(small(name)) for name in ("imagenet_nest_tiny", "no_mixing")
    )
    assert whole.augment.mix.mixup_alpha == 0.8
    assert without.augment.mix.mixup_alpha == 0.0
    with without.unlocked():
        without.augment.mix = whole.augment.mix
    assert without == whole


def test_a_small_edition_keeps_the_proportion_of_lengths():
    thirty, all_of_them = (
        load_config(small(name))
        for name in ("imagenet_nest_base_30", "imagenet_nest_base")
    )
    assert thirty.num_epochs == pytest.approx(all_of_them.num_epochs / 10)
    assert thirty.warmup_epochs == pytest.approx(all_of_them.warmup_epochs / 10)


def test_localization_needs_boxes():
    with pytest.raises(UserError, match="needs boxes, which --scale=digits has not"):
        small("localization_nest_small")
    assert small("localization_nest_small", "clutter").method == "cam"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mnist", ""), "no table 'mnist'; there are: cifar10, "),
        (("cifar10", "tiny"), "no scale 'tiny'; there are: digits, clutter"),
    ],
)
def test_unknown_tables(arguments: tuple[str, str], message: str):
    name, scale = arguments
    with pytest.raises(UserError, match=message):
        reproduction.edition(name, scale=scale, folder=Path())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nest", "no row 'nest' in the table localization; there are: local"),
        ("localization_deit", "cannot be run here: only the paper's number"),
        ("all,localization_deit", "all is every row; give it alone"),
    ],
)
def test_unknown_rows(name: str, message: str):
    edition = reproduction.edition("localization", scale="", folder=Path())
    with pytest.raises(UserError, match=message):
        edition.choose(name.split(","))
    assert [row.name for row in edition.choose(["all"])] == ["localization_nest_small"]


@pytest.mark.parametrize("seeds", [["a"], ["0", "0"], ["-1"], []])
def test_seeds_are_numbers_that_differ(seeds: list[str]):
    with pytest.raises(UserError, match="--seeds="):
        reproduction.read_seeds(seeds)


def test_generators_have_no_smaller_scale(tmp_path: Path):
    with pytest.raises(UserError, match="no smaller scale"):
        reproduction.generators(tmp_path, run=[], scale="digits")
    with pytest.raises(UserError, match="no row 'biggan'"):
        reproduction.generators(tmp_path, run=["biggan"], scale="")
    told = reproduction.generators(tmp_path, run=[], scale="")
    assert told == "generators: not run; add --rows=all"


def leave(folder: Path, command: tuple[str, ...], *, top1: float, **start) -> None:
    """What a run leaves in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    began = dict(command=list(command), began="2021-05-26T00:00:00+00:00")
    killed = began | dict(seconds=10.0, status=None)
    starts = [killed, began | dict(seconds=30.0, status=0) | start]
    (folder / "run.json").write_text(json.dumps(starts))
    lines = [
        {"step": 5, "train/images_per_second": 100.0},
        {"step": 5, "eval/top1": 0.1},
        {"step": 9, "train/images_per_second": 300.0},
        {"step": 9, "eval/top1": top1},
    ]
    text = "\n".join(map(json.dumps, lines))
    (folder / "metrics.jsonl").write_text(text + '\n{"step": 12, "ev')
    environment = dict(platform="gpu", device_kind="H200", device_count=2, cpu_count=8)
    (folder / "environment.json").write_text(json.dumps([environment]))


def test_what_a_run_left(tmp_path: Path):
    leave(tmp_path / "a", ("train.py",), top1=0.75)
    run = Run("a", tmp_path / "a", (("train.py",),))
    assert collect(run, "eval/top1") == Result(
        finished=True,
        step=9,
        value=0.75,
        hardware="2x H200",
        devices=2,
        seconds=40.0,
        images_per_second=200.0,
    )
    assert collect(Run("b", tmp_path / "b", ()), "eval/top1") is None


def test_a_figure_of_the_last_line_printed(tmp_path: Path):
    leave(tmp_path, ("train.py",), top1=0.75)
    printed = 'ended\n{"top1": 0.7, "localization": {"error": 0.25}}\n{not JSON\n3\n'
    (tmp_path / "log.txt").write_text(printed)
    run = Run("a", tmp_path, (("train.py",),))
    assert collect(run, "localization.error").value == 0.25
    assert collect(run, "top1.error").value is None


def test_the_cost_of_a_row():
    result = Result(True, 9, 0.75, "2x H200", 2, 40.0, images_per_second=200.0)
    each = dataclasses.replace(row("cifar10_nest_tiny"), epochs=36.0)
    # 36 x 50,000 images at 200 a second are 9000 seconds, on 2 devices.
    assert device_hours(each, result) == pytest.approx(5.0)


def command(edition: reproduction.Edition, seed: int) -> tuple[str, ...]:
    """The recorded command of the first row."""
    field = f"--config.seed={seed}"
    return (*train_command(edition.rows[0].config, edition.rows[0].overrides), field)


def test_a_written_table(tmp_path: Path):
    edition = reproduction.edition("aggregation", scale="digits", folder=tmp_path)
    place = tmp_path / "digits" / "imagenet_nest_tiny"
    leave(place / "seed0", command(edition, 0), top1=0.5)
    # Neither the place of the data nor the order of the fields makes another run.
    moved = (*reversed(command(edition, 1)[1:]), "--config.data.data_dir=elsewhere")
    leave(place / "seed1", ("train.py", *moved), top1=0.7)
    leave(place / "seed2", command(edition, 2), top1=0.9, status=143)
    text, image = edition.write()
    lines = text.read_text().splitlines()
    assert lines[0].startswith("### SMALL SCALE: 1,437 scanned digits")
    published = next(line for line in lines if "(published)" in line)
    # The sample deviation of 50 and 70 is 20 / sqrt(2).
    assert "| 60.00 ± 14.14 (2 seeds), stopped at step 9 |" in published
    assert "| 2x H200 | 40 s |" in published
    assert published.endswith(
        "| `python scripts/reproduce.py aggregation --scale=digits "
        "--rows=imagenet_nest_tiny --seeds=0,1,2` |"
    )
    assert sum("| not run |" in line for line in lines) == 5
    assert image.exists()


def test_a_run_with_other_settings_does_not_count(tmp_path: Path):
    whole, short = (
        reproduction.edition("epochs", scale="digits", folder=tmp_path, settings=x)
        for x in ([], ["weight_decay=1", "data.data_dir=/d"])
    )
    fields = ("--config.weight_decay=1", "--config.data.data_dir=/d")
    place = tmp_path / "digits" / "imagenet_nest_base_30" / "seed0"
    leave(place, (*command(whole, 0), *fields), top1=0.5)
    lines = whole.write()[0].read_text().splitlines()
    line = next(line for line in lines if "30 epochs" in line)
    assert "| run with other settings: weight_decay=1 |  |  | not measured |" in line
    lines = short.write()[0].read_text().splitlines()
    assert "every row with weight_decay=1, data.data_dir=/d" in lines[2]
    line = next(line for line in lines if "30 epochs" in line)
    assert "| 50.00 | 2x H200 | 40 s |" in line
    assert line.endswith("--seeds=0 --set=weight_decay=1 --set=data.data_dir=/d` |")


def test_a_measurement_is_of_the_settings(tmp_path: Path):
    arguments = dict(scale="digits", folder=tmp_path)
    plain, half = (
        reproduction.edition("aggregation", settings=settings, **arguments)
        for settings in ([], ["model.dtype=bfloat16"])
    )
    each = half.rows[0]
    run = measurement(
        each, tmp_path, steps=9, batch_size=4, settings={"model.dtype": "bfloat16"}
    )
    assert "--config.model.dtype=bfloat16" in run.commands[0]
    assert "--config.data.dataset=10x4x8" in run.commands[0]
    place = tmp_path / "digits" / each.name / "speed"
    leave(place, run.commands[0], top1=0.5)
    assert "(2x H200, 200 images/s)" in half.write()[0].read_text()
    assert "images/s" not in plain.write()[0].read_text()
    with pytest.raises(UserError, match="--set=batch_size=x is not a whole number"):
        measurement(each, tmp_path, steps=9, batch_size=0, settings={"batch_size": "x"})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=7", "--set=seed=7: give seeds by --seeds=7"),
        ("speed=7", "the config of .* has no field 'speed'; there are: .*batch_size"),
        ("speed", "--set=speed is not FIELD=VALUE"),
    ],
)
@pytest.mark.parametrize("scale", ["", "digits"])
def test_settings_that_are_none(setting: str, message: str, scale: str):
    with pytest.raises(UserError, match=message):
        reproduction.edition(
            "augmentation", scale=scale, folder=Path(), settings=[setting]
        )


def test_localization_is_refused_before_a_training_without_boxes(tmp_path: Path):
    def edition(*settings: str) -> reproduction.Edition:
        return reproduction.edition(
            "localization", scale="", folder=tmp_path, settings=settings
        )

    def run(edition: reproduction.Edition) -> None:
        edition.run(edition.choose(["all"]), seeds=[], jobs=1)

    with pytest.raises(UserError, match="the row localization_nest_small needs boxes"):
        run(edition())
    file = tmp_path / "boxes.csv"
    with pytest.raises(UserError, match="there is no such file"):
        run(edition(f"localization.boxes={file}"))
    file.touch()
    run(edition(f"localization.boxes={file}"))
    run(edition("data.source=clutter"))
    run(reproduction.edition("localization", scale="clutter", folder=tmp_path))


def test_a_count_that_differs_is_said(tmp_path: Path):
    wrong = dataclasses.replace(
        row("cifar10_nest_tiny"), parameters=Published(6_000_000, "released code")
    )
    table = dataclasses.replace(TABLES["cifar10"], rows=(wrong,))
    edition = reproduction.Edition(table, (wrong,), tmp_path, None, {})
    text = edition.write()[0].read_text()
    assert "| 6,006,730 (DIFFERS: 6,000,000, released code) |" in text


def test_single_values_have_no_spread():
    assert mean_and_spread([3.0]) == (3.0, None)
    assert ours([]) == "not run"
    assert ours([Result(True, 9, 0.5, "", 1, 1.0, None)]) == "50.00"


def test_durations():
    assert [duration(s) for s in (90, 600, 7200)] == ["90 s", "10 min", "2.0 h"]
