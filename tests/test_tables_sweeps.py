"""nest.tables.sweeps: which trials, and what is written of them."""

import math
from pathlib import Path

import pytest

from configs import digits_nest
from nest.errors import UserError
from nest.tables.collect import Result
from nest.tables.runs import Run
from nest.tables.sweeps import (
    check_metric,
    config_arguments,
    draw,
    grid,
    markdown,
    picture,
    read_axes,
    sweep_name,
    trial_runs,
)

CONFIG = digits_nest.get_config()


def test_a_grid_is_every_combination():
    axes = read_axes(["seed=0,1", "model.layers=(1,1),(2,2)"], CONFIG)
    assert grid(axes) == [
        {"seed": seed, "model.layers": layers}
        for seed in ("0", "1")
        for layers in ("(1,1)", "(2,2)")
    ]


def test_more_draws_begin_with_the_same_ones():
    axes = read_axes(["lr_per_256=1e-3..1e-1", "seed=0,1"], CONFIG)
    few, many = (draw(axes, count, seed=3) for count in (3, 40))
    assert many[:3] == few
    rates = [float(trial["lr_per_256"]) for trial in many]
    assert all(1e-3 <= rate <= 1e-1 for rate in rates)
    # Half of a uniform logarithm lies below its middle; 6 of 40 is 4.4 deviations off.
    assert 6 < sum(rate < 1e-2 for rate in rates) < 34
    assert {trial["seed"] for trial in many} == {"0", "1"}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("seed", "'seed' is not FIELD=VALUE,VALUE,..."),
        ("speed=1", "the config has no field 'speed'; there are: .*seed"),
        ("seed=1,1", "has an empty value or one twice"),
        ("seed=1,", "has an empty value or one twice"),
    ],
)
def test_what_is_no_axis(argument: str, message: str):
    with pytest.raises(UserError, match=message):
        read_axes([argument], CONFIG)


def test_ranges_are_drawn_from():
    axes = read_axes(["eps=1e-9..1e-7"], CONFIG)
    with pytest.raises(UserError, match="draw from it with --random=N"):
        grid(axes)
    with pytest.raises(UserError, match="ends of a range are positive numbers"):
        draw({"eps": ["-1..1"]}, 2, seed=0)
    with pytest.raises(UserError, match="only 2 combinations"):
        draw({"seed": ["0", "1"]}, 3, seed=0)


def test_a_trial_has_a_folder_of_its_own():
    trials = grid({"model.layers": ["(1,1)", "(1, 2)"], "seed": ["0"]})
    runs = trial_runs(trials, ["--config=configs/digits_nest.py"], Path("x"))
    assert len({run.folder for run in runs}) == 2
    assert runs[0].commands == (
        (
            "train.py",
            "--config=configs/digits_nest.py",
            "--config.model.layers=(1,1)",
            "--config.seed=0",
        ),
    )


def test_folders_of_trials_are_names_that_a_disk_takes():
    layers = [f"({'1,' * n}1)" for n in (40, 400, 401)]
    names = ["(1,1)", "[1,1]", "é" * 200, "1" * 400, "1" * 401, *layers]
    trials = grid({"model.layers": names})
    folders = [run.folder.name for run in trial_runs(trials, [], Path())]
    assert len(set(folders)) == len(names)
    assert max(len(folder.encode()) for folder in folders) <= 255
    plain = grid({"seed": ["0"], "lr_per_256": ["1e-2"]})
    assert trial_runs(plain, [], Path())[0].folder.name == "seed=0,lr_per_256=1e-2"
    with pytest.raises(UserError, match="the trial seed=0 is there twice"):
        trial_runs([{"seed": "0"}, {"seed": "0"}], [], Path())


def test_another_sweep_has_another_table():
    config, axes = ["--config=a.py"], {"seed": ["0", "1"]}
    one = sweep_name(config, axes, "")
    assert one == sweep_name(config, dict(axes), "")
    others = (
        sweep_name(["--config=b.py"], axes, ""),
        sweep_name(config, {"seed": ["0", "2"]}, ""),
        sweep_name(config, {"eps": ["0", "1"]}, ""),
        sweep_name(config, axes, "drawn with 0"),
    )
    assert len({one, *others}) == 5


def test_a_metric_that_no_trial_has(tmp_path: Path):
    runs = [Run("a", tmp_path, ())]
    check_metric("eval/top9", runs)  # nothing has been written yet
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "eval/top1": 0.5}\n')
    check_metric("eval/top1", runs)
    with pytest.raises(UserError, match="'eval/top9'; there are: eval/top1"):
        check_metric("eval/top9", runs)


def test_arguments_of_the_config():
    passed = ["--config=a.py", "--config.seed=1", "--config.model.layers=(1, 1)"]
    others = ["--jobs=2", "lr_per_256=1", "--", "--config.eps=1"]
    assert config_arguments([*passed, *others]) == passed
    for argument in ("-config=a.py", "--config", "--noconfig.augment.flip"):
        with pytest.raises(UserError, match="in one piece, and as --config=FILE"):
            config_arguments([argument])


def test_a_field_is_of_all_trials_or_of_each():
    given = ["--config=configs/digits_nest.py", "--config.seed=3"]
    with pytest.raises(UserError, match="the field seed is given twice"):
        trial_runs([{"seed": "0"}], given, Path())


def test_the_best_comes_first():
    trials = [{"seed": "0"}, {"seed": "1"}, {"seed": "2"}]
    results = [
        Result(True, 9, 0.5, "2 CPU cores", 1, 30.0, None),
        Result(True, 9, 0.75, "2 CPU cores", 1, 30.0, None),
        None,
    ]
    lines = markdown(trials, results, metric="eval/top1").splitlines()[2:]
    assert lines == [
        "| 1 | 0.75 | finished at step 9 | 2 CPU cores | 30 s |",
        "| 0 | 0.5 | finished at step 9 | 2 CPU cores | 30 s |",
        "| 2 |  | not run |  |  |",
    ]
    results = [
        Result(True, 9, value, "2 CPU cores", 1, 30.0, None)
        for value in (math.nan, 0.75, 0.5)
    ]
    lines = markdown(trials, results, metric="eval/loss").splitlines()[2:]
    values = [line.split(" | ")[1] for line in lines]
    assert values == ["0.5", "0.75", "nan"]
    picture(trials, results, metric="eval/loss")
