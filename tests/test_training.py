"""nest.training.classifier: whole runs on the digits."""

import functools
import json
import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import ROOT
from ml_collections import ConfigDict
from PIL import Image

from configs import cifar_nest, finetune_folder, imagenet384_nest, imagenet_nest
from nest.errors import UserError
from nest.training import classifier, classifier_evaluation, devices
from nest.training import classifier_setup as setup
from nest.training.checkpoints import Checkpoints
from nest.training.classifier_step import State
from nest.weights import read_weights


def final_state(config: ConfigDict, path: Path, which: str = "latest") -> State:
    optimizer = setup.build_optimizer(config, lambda step: 0.0)
    _, like = setup.build_state(config, optimizer, devices.data_mesh(), num_classes=10)
    return Checkpoints(path, read_only=True).restore(which, like)[1]


def assert_identical(left: State, right: State) -> None:
    jax.tree.map(np.testing.assert_array_equal, left, right)


def metrics(path: Path) -> list[dict]:
    return [
        json.loads(row) for row in (path / "metrics.jsonl").read_text().splitlines()
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[ConfigDict, Path]:
    """An uninterrupted run, with all that resuming has to bring back."""
    path = tmp_path_factory.mktemp("finished")
    config = interrupted_config()
    classifier.train(config, path)
    return config, path


def interrupted_config() -> ConfigDict:
    """The config of the subprocess runs below, too: see `command_line`."""
    from configs import digits_nest

    config = digits_nest.get_config()
    for field, value in OVERRIDES.items():
        config[field] = value
    config.model.layers = (1, 1)
    config.model.widths = (8, 8)
    config.model.heads = (2, 2)
    config.model.drop_path = 0.2
    return config


EPOCH = 1437 / 32
OVERRIDES = dict(
    num_epochs=30 / EPOCH,
    warmup_epochs=3 / EPOCH,
    eval_every_epochs=10 / EPOCH,
    checkpoint_every_epochs=4 / EPOCH,
    log_every_steps=1,
)


def command_line(path: Path) -> list[str]:
    flags = [f"--config.{field}={value}" for field, value in OVERRIDES.items()]
    return [
        sys.executable,
        str(ROOT / "train.py"),
        f"--config={ROOT / 'configs' / 'digits_nest.py'}",
        f"--workdir={path}",
        "--config.model.layers=(1, 1)",
        "--config.model.widths=(8, 8)",
        "--config.model.heads=(2, 2)",
        "--config.model.drop_path=0.2",
        *flags,
    ]


def start_and_signal(path: Path, number: int, *, after_step: int) -> tuple[int, str]:
    """Start a run in a process of its own and signal it once it has logged a step."""
    output = []
    with subprocess.Popen(
        command_line(path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            output.append(line)
            if line.startswith(f"step {after_step}/"):
                process.send_signal(number)
    return process.returncode, "".join(output)


def test_a_run_logs_everything(finished):
    _, path = finished
    rows = metrics(path)
    train = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in train] == list(range(1, 31))
    assert train[0].keys() == {
        "step",
        "train/loss",
        "train/accuracy",
        "train/grad_norm",
        "train/param_norm",
        "train/lr",
        "train/images_per_second",
        "train/input_wait_share",
    }
    # The learning rate of step s is that of s - 1 finished steps.
    assert [row["train/lr"] for row in train[:4]] == pytest.approx(
        [0, 2e-3 / 3, 4e-3 / 3, 2e-3]
    )
    evaluated = [row for row in rows if "eval/top1" in row]
    assert [row["step"] for row in evaluated] == [10, 20, 30]
    assert {row["eval/examples"] for row in evaluated} == {360}
    assert {file.name for file in path.iterdir()} >= {
        "best",
        "checkpoints",
        "config.json",
        "environment.json",
        "parameters.txt",
        "tensorboard",
    }


def test_a_finished_run_says_so(finished, capsys):
    config, path = finished
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*.*")}
    assert path / "environment.json" in before
    classifier.train(config, path)
    output = capsys.readouterr().out
    assert f"{path} is finished at step 30: test accuracy" in output
    assert before == {file: file.stat().st_mtime_ns for file in before}


@pytest.mark.slow
def test_a_killed_run_resumes_to_identical_parameters(finished, tmp_path: Path):
    config, path = finished
    for after in (6, 13):
        status, output = start_and_signal(tmp_path, signal.SIGKILL, after_step=after)
        assert status == -signal.SIGKILL, output
    steps = Checkpoints(tmp_path, read_only=True).steps()
    assert steps and 4 <= max(steps) < 30
    completed = subprocess.run(command_line(tmp_path), capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    assert f"resuming at step {max(steps)}" in completed.stdout
    assert_identical(final_state(config, tmp_path), final_state(config, path))
    assert [(row["step"], row.get("train/loss")) for row in metrics(tmp_path)] == [
        (row["step"], row.get("train/loss")) for row in metrics(path)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_at_the_next_step(finished, tmp_path: Path, number):
    config, path = finished
    status, output = start_and_signal(tmp_path, number, after_step=6)
    assert status == 128 + number
    stopped = max(Checkpoints(tmp_path, read_only=True).steps())
    assert 6 <= stopped < 30
    last = output.splitlines()[-1]
    assert last == (
        f"stopped by {number.name}; step {stopped} of 30 is saved in {tmp_path}: run "
        f"the same command to go on"
    )
    classifier.train(config, tmp_path)
    assert_identical(final_state(config, tmp_path), final_state(config, path))


def test_evaluate_prints_exact_json(finished, capsys):
    config, path = finished
    classifier_evaluation.evaluate_checkpoint(config, path, "latest")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    last = metrics(path)[-1]
    assert (result["step"], result["examples"], result["split"]) == (30, 360, "test")
    for name in ("loss", "top1", "top5"):
        assert result[name] == pytest.approx(last[f"eval/{name}"], abs=1e-6)
    assert result["worst_classes"][0]["recall"] < 1


def test_evaluate_takes_the_named_checkpoint(finished, capsys):
    config, path = finished
    best = Checkpoints(path, read_only=True).best_step()
    classifier_evaluation.evaluate_checkpoint(config, path, "best")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["step"] == best
    classifier_evaluation.evaluate_checkpoint(config, path, "28")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["step"] == 28
    with pytest.raises(UserError, match="no checkpoint '7'"):
        classifier_evaluation.evaluate_checkpoint(config, path, "7")


def test_evaluate_does_not_need_the_batch_size_of_training(finished, capsys):
    config, path = finished
    with config.unlocked():
        changed = ConfigDict(config)
    changed.eval_batch_size = 50
    classifier_evaluation.evaluate_checkpoint(changed, path, "latest")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["examples"] == 360
    assert result["loss"] == pytest.approx(metrics(path)[-1]["eval/loss"], rel=1e-5)


def test_a_non_finite_loss_names_the_step_and_the_last_good_checkpoint(
    small_config, tmp_path: Path
):
    small_config.lr_per_256 = 1e30
    small_config.warmup_epochs = 5 / EPOCH
    small_config.checkpoint_every_epochs = 1 / EPOCH
    with pytest.raises(UserError) as error:
        classifier.train(small_config, tmp_path)
    message = str(error.value)
    # Step 1 has a learning rate of 0; step 2 has a good loss and ruins the parameters.
    assert message.startswith("step 2: loss 2.")
    assert "parameter norm inf" in message
    assert f"last good checkpoint is {tmp_path / 'checkpoints' / '1'}" in message
    assert Checkpoints(tmp_path).steps() == [1]


def test_a_changed_config_is_refused(finished):
    config, path = finished
    changed = ConfigDict(config)
    changed.lr_per_256 = 0.5
    with pytest.raises(UserError, match=r"lr_per_256 was 0\.016, now 0\.5"):
        classifier.train(changed, path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.image_size", 10, "need a multiple of 4; the nearest are 8 and 12"),
        ("model.name", "nest_huge", "config.model: no model 'nest_huge'"),
        ("model.dtype", "float16", "use 'float32' or 'bfloat16'"),
        ("data.source", "dir", "no data source 'dir'"),
        ("data.train_split", "all", "digits has the splits"),
        ("batch_size", 33, "not divisible by 2 devices; the next that is: 34"),
        ("accumulation_steps", 3, "2 devices x 3 accumulation steps"),
        ("eval_batch_size", 7, "eval_batch_size = 7 is not divisible"),
        ("log_every_steps", 0, "log_every_steps = 0; it must be at least 1"),
        ("num_epochs", 0.0, "num_epochs = 0.0; it must be positive"),
        ("ema_decay", 1.0, "ema_decay = 1.0; it must be below 1"),
        ("warmup_epochs", 9.0, "is longer than the run"),
        ("profile_steps", (5, 2), "ends before it starts"),
        ("seed", -1, "seed = -1; it must be at least 0"),
        ("augment.shift", -1, "augment.shift = -1; it must be at least 0"),
        ("data.eval_crop", 1.5, "eval_crop = 1.5; it must be in (0, 1]"),
        ("data.std", (0.5, 0.5), "data.std needs three numbers"),
        ("model.patch_size", 0, "must be positive"),
        ("model.heads", (0, 2, 2), "must be positive"),
        ("data.threads", 0, "data.threads = 0; it must be at least 1"),
        ("data.holdout", 1.0, "data.holdout = 1.0; it must be in [0, 0.9]"),
        ("augment.color_jitter.hue", 0.7, "hue = 0.7; it must be in [0, 0.5]"),
        ("augment.random_erasing.area", (0.5, 0.1), "must be (smallest, largest)"),
    ],
)
def test_a_wrong_field_is_one_line_before_anything_is_written(
    small_config, tmp_path: Path, field, value, message
):
    small_config.model.layers = (1, 1, 1)
    small_config.model.widths = (8, 8, 8)
    small_config.model.heads = (2, 2, 2)
    small_config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError) as error:
        classifier.train(small_config, tmp_path / "run")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_mixing_needs_pairs_on_every_device(small_config, tmp_path: Path):
    small_config.batch_size = 30
    small_config.augment.mix.mixup_alpha = 0.8
    with pytest.raises(UserError, match=r"odd number of images.*use a multiple of 4"):
        classifier.train(small_config, tmp_path / "run")


def test_broken_images_are_reported_at_the_end(small_config, tmp_path: Path, capsys):
    data = tmp_path / "data"
    for name in ("a", "b"):
        (data / name).mkdir(parents=True)
        for k in range(20):
            image = np.full((8, 8, 3), 10 * k, np.uint8)
            Image.fromarray(image).save(data / name / f"{k}.png")
    (data / "a" / "cut.png").write_bytes((data / "a" / "1.png").read_bytes()[:40])
    small_config.batch_size = 4
    small_config.num_epochs = 1.0
    small_config.warmup_epochs = 0.0
    small_config.data.source = "folder"
    small_config.data.data_dir = str(data)
    small_config.data.holdout = 0.3
    small_config.data.in_memory = False
    with pytest.raises(UserError, match=r"cut\.png is not a readable image"):
        classifier.train(small_config, tmp_path / "stops")
    small_config.data.skip_corrupt = True
    classifier.train(small_config, tmp_path / "goes_on")
    output = capsys.readouterr()
    assert "1 of " in output.err and "cut.png" in output.err
    assert "finished in" in output.out


def test_a_run_starts_from_another_runs_weights(finished, tmp_path: Path, capsys):
    config, path = finished
    with config.unlocked():
        config = ConfigDict(config)
    config.model.image_size = 16
    config.num_epochs, config.warmup_epochs = 2 / EPOCH, 0.0
    config.init_from = str(path)
    config.freeze = ("levels.0.*", "patch_embedding.*")
    config.ema_decay = 0.0
    classifier.train(config, tmp_path)
    output = capsys.readouterr().out
    assert (
        "resized  levels.0.position_embedding (1, 4, 16, 8) -> (1, 4, 64, 8)" in output
    )
    assert "new      none" in output
    before = read_weights(path).params["levels"]
    after = read_weights(tmp_path).params["levels"]
    jax.tree.map(np.testing.assert_array_equal, after[0]["layers"], before[0]["layers"])
    kernel = ("layers", 0, "mlp", "expand", "kernel")
    a, b = (functools.reduce(operator.getitem, kernel, x[1]) for x in (after, before))
    assert (a != b).any()
    classifier.train(config, tmp_path)
    assert "is finished at step 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("init_from", "required", "give --config.init_from=FILE"),
        ("init_from", "nowhere", "no file or folder nowhere"),
        ("freeze", ("head",), "no parameter is called 'head'"),
        ("layer_decay", 0.0, "layer_decay = 0.0; it must be in (0, 1]"),
    ],
)
def test_what_fine_tuning_needs_is_named(
    small_config, tmp_path: Path, field, value, message
):
    small_config[field] = value
    with pytest.raises(UserError) as error:
        classifier.train(small_config, tmp_path)
    assert message in str(error.value)


@pytest.mark.parametrize("steps", [(2, 3), (8, 99)])
def test_a_profile_of_the_steps_asked_for(small_config, tmp_path: Path, steps):
    small_config.profile_steps = steps
    classifier.train(small_config, tmp_path)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


EXPERIMENTS = [
    (module, variant)
    for module, variants in (
        (cifar_nest, ("tiny", "small", "base", "tiny_100", "small_100", "base_100")),
        (imagenet_nest, imagenet_nest.SIZES),
        (imagenet384_nest, imagenet_nest.SIZES),
        (finetune_folder, imagenet_nest.SIZES),
    )
    for variant in variants
]


@pytest.mark.parametrize(("module", "variant"), EXPERIMENTS)
def test_every_experiment_runs_a_step_at_a_reduced_size(
    module, variant: str, tmp_path: Path
):
    config = module.get_config(variant)
    assert config.task == "classifier"
    levels = 4 if module is cifar_nest else 3
    config.model.layers = (1,) * levels
    config.model.widths = (4,) * levels
    config.model.heads = (2,) * levels
    if module is not cifar_nest:
        config.model.image_size = 32
    config.init_from = ""
    config.model.drop_path = 0.1  # for all sizes, so that they compile as one
    config.batch_size = config.eval_batch_size = 4
    config.num_epochs, config.warmup_epochs = 0.5, 0.0

    classes = {"cifar10": 10, "cifar100": 100, "imagenet2012": 1000, "folder": 5}
    size = 32 if module is cifar_nest else 40
    config.data.source = "synthetic"
    config.data.dataset = f"{classes[config.data.dataset]}x8x{size}"
    config.data.eval_split = "train"
    classifier.train(config, tmp_path)
    assert metrics(tmp_path)[-1]["eval/examples"] == 8
    assert Checkpoints(tmp_path).steps() == [1]


@pytest.mark.slow
def test_the_digits_are_learnt(tmp_path: Path):
    """The default run, from the command line, on one device."""
    environment = os.environ | {"XLA_FLAGS": ""}
    command = [sys.executable, "train.py", "--config=configs/digits_nest.py"]
    started = time.monotonic()
    completed = subprocess.run(
        [*command, f"--workdir={tmp_path}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr == ""
    print(f"took {time.monotonic() - started:.0f} s")
    assert metrics(tmp_path)[-1]["eval/top1"] >= 0.98
