"""nest.training.workdir."""

import json
import re
from pathlib import Path

import pytest
from conftest import tiny_gan
from ml_collections import ConfigDict

from nest.errors import UserError
from nest.training import workdir

DATA = {"class_names": ("a", "b"), "train_examples": 10, "eval_examples": 2}


def started(path: Path, config: ConfigDict, start_step: int = 0) -> None:
    """What a run does before its first step."""
    with workdir.claim(path, config):
        workdir.record(path, config, start_step, DATA)


def test_config_and_environment_are_recorded(tmp_path: Path, small_config):
    path = tmp_path / "a" / "run"
    started(path, small_config)
    recorded = json.loads((path / "config.json").read_text())
    assert recorded["model"]["widths"] == [8, 8]
    assert recorded["seed"] == 0
    assert workdir.class_names(path) == ("a", "b")
    (environment,) = json.loads((path / "environment.json").read_text())
    assert environment["start_step"] == 0
    assert environment["device_count"] == 2
    assert environment["packages"]["jax"]
    assert re.fullmatch(r"[0-9a-f]{40}\+?", environment["git_commit"] or "0" * 40)


def test_every_start_of_a_run_is_recorded(tmp_path: Path, small_config):
    for step in (0, 7, 9):
        started(tmp_path, small_config, step)
    starts = json.loads((tmp_path / "environment.json").read_text())
    assert [start["start_step"] for start in starts] == [0, 7, 9]
    started(tmp_path, small_config, 0)
    assert len(json.loads((tmp_path / "environment.json").read_text())) == 1


def test_a_free_field_may_change(tmp_path: Path, small_config):
    started(tmp_path, small_config)
    small_config.log_every_steps = 7
    small_config.data.data_dir = "/elsewhere"
    started(tmp_path, small_config)
    assert json.loads((tmp_path / "config.json").read_text())["log_every_steps"] == 7


def test_every_free_field_exists(small_config):
    configs = small_config, tiny_gan()
    flat = [workdir._flatten(json.loads(config.to_json())) for config in configs]
    assert set(workdir.FREE_FIELDS) <= set(flat[0]) | set(flat[1])


def test_a_run_without_a_checkpoint_binds_nothing(tmp_path: Path, small_config):
    started(tmp_path, small_config)
    small_config.batch_size = 64
    with workdir.claim(tmp_path, small_config):
        pass


@pytest.mark.parametrize("folder", ["checkpoints", "best"])
def test_any_other_change_is_refused_by_name(tmp_path, small_config, folder: str):
    started(tmp_path, small_config)
    (tmp_path / folder / "3").mkdir(parents=True)
    before = (tmp_path / "config.json").read_text()
    small_config.batch_size = 64
    small_config.model.widths = (8, 16)
    with pytest.raises(UserError) as error, workdir.claim(tmp_path, small_config):
        pass
    message = str(error.value)
    assert "batch_size was 32, now 64" in message
    assert "model.widths was [8, 8], now [8, 16]" in message
    assert "--workdir" in message and "\n" not in message
    assert (tmp_path / "config.json").read_text() == before


def test_other_data_is_refused_by_name(tmp_path: Path, small_config):
    started(tmp_path, small_config)
    workdir.check_data(tmp_path, DATA | {"train_examples": 11})  # nothing saved yet
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    workdir.check_data(tmp_path, DATA)
    with pytest.raises(UserError, match=r"other data \(train_examples changed since"):
        workdir.check_data(tmp_path, DATA | {"train_examples": 11})


def test_a_folder_in_use_is_refused_until_it_is_free(tmp_path: Path, small_config):
    with (
        workdir.claim(tmp_path, small_config),
        pytest.raises(UserError, match="another run is writing to"),
        workdir.claim(tmp_path, small_config),
    ):
        pass
    with workdir.claim(tmp_path, small_config):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, small_config):
    file = tmp_path / "file"
    file.touch()
    for path, reason in ((file / "run", "Not a directory"), (file, "File exists")):
        with (
            pytest.raises(UserError, match=rf"cannot be written \({reason}\)"),
            workdir.claim(path, small_config),
        ):
            pass


def test_a_folder_without_a_run_is_refused_where_one_is_needed(tmp_path, small_config):
    with pytest.raises(UserError, match=r"no run in .* config\.json is missing"):
        workdir.check_evaluation_config(tmp_path, small_config)


def test_evaluation_may_differ_in_what_only_training_needs(tmp_path, small_config):
    started(tmp_path, small_config)
    small_config.batch_size = 33
    small_config.data.eval_split = "train"
    workdir.check_evaluation_config(tmp_path, small_config)
    small_config.model.widths = (8, 16)
    with pytest.raises(UserError, match=r"model\.widths was"):
        workdir.check_evaluation_config(tmp_path, small_config)
