"""nest.training.gan: whole runs on the digits."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import ROOT, TINY_GAN, tiny_gan
from ml_collections import ConfigDict
from PIL import Image

from configs import cifar_generator, digits_generator, digits_nest, imagenet64_generator
from nest.errors import UserError
from nest.training import devices, gan, gan_setup
from nest.training.checkpoints import Checkpoints
from nest.training.gan_step import GanState

OVERRIDES = {
    "num_steps": 12,
    "sample_every_steps": 6,
    "checkpoint_every_steps": 4,
}


def small_config(**overrides) -> ConfigDict:
    return tiny_gan(**OVERRIDES | overrides)


def final_state(path: Path) -> GanState:
    _, _, like = gan_setup.build_state(small_config(), devices.data_mesh())
    checkpoints = Checkpoints(path, read_only=True)
    return checkpoints.restore("latest", like)[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """An uninterrupted run."""
    path = tmp_path_factory.mktemp("gan")
    gan.train(small_config(), path)
    return path


def test_a_run_logs_everything(finished):
    rows = [
        json.loads(row) for row in (finished / "metrics.jsonl").read_text().splitlines()
    ]
    assert [row["step"] for row in rows] == list(range(1, 13))
    always = {
        "step",
        "train/generator_loss",
        "train/discriminator_loss",
        "train/real_logit",
        "train/fake_logit",
        "train/generator_grad_norm",
        "train/discriminator_grad_norm",
        "train/diversity",
        "train/param_norm",
        "train/images_per_second",
        "train/input_wait_share",
    }
    for row in rows:
        penalized = {"train/r1"} if row["step"] % 2 else set()
        assert row.keys() == always | penalized


def test_a_run_draws_the_same_noise_every_time(finished):
    files = sorted((finished / "samples").iterdir())
    assert [file.name for file in files] == ["0000006.png", "0000012.png"]
    pictures = [np.asarray(Image.open(file)) for file in files]
    assert pictures[0].shape == pictures[1].shape
    assert not np.array_equal(*pictures)
    assert list((finished / "tensorboard").iterdir())


def test_a_finished_run_is_left_alone(finished, capsys):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    gan.train(small_config(), finished)
    assert "is finished at step 12" in capsys.readouterr().out
    written = {file.name for file in finished.rglob("*") if file.is_file()} - {"lock"}
    after = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    assert {f: t for f, t in after.items() if f.name in written} == {
        f: t for f, t in before.items() if f.name in written
    }


@pytest.mark.slow
def test_kill_and_resume_is_bit_identical(finished, tmp_path):
    """SIGKILL between two checkpoints (the newer may be cut off), SIGTERM, the end."""
    settings = TINY_GAN | OVERRIDES
    flags = [f"--config.{name}={value}" for name, value in settings.items()]
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        f"--config={ROOT / 'configs' / 'digits_generator.py'}",
        f"--workdir={tmp_path}",
        *flags,
    ]
    outputs = []
    for number, after in ((signal.SIGKILL, 9), (signal.SIGTERM, 10), (None, None)):
        lines = []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout:
                lines.append(line)
                if number and line.startswith(f"step {after}/12  loss"):
                    process.send_signal(number)
        outputs.append("".join(lines))
        expected = {signal.SIGKILL: -9, signal.SIGTERM: 128 + 15, None: 0}[number]
        assert process.returncode == expected, outputs[-1]
    assert re.search(r"resuming at step (4|8)", outputs[1])
    assert "stopped by SIGTERM" in outputs[1]
    assert re.search(r"resuming at step (10|11)", outputs[2])
    jax.tree.map(
        np.testing.assert_array_equal, final_state(finished), final_state(tmp_path)
    )
    same = "samples/0000012.png"
    assert (finished / same).read_bytes() == (tmp_path / same).read_bytes()


def test_what_is_not_finite_ends_the_run(tmp_path):
    config = small_config(discriminator_lr=1e30)
    with pytest.raises(
        UserError, match=r"step \d+: generator's loss .* no checkpoint yet"
    ):
        gan.train(config, tmp_path)


def test_a_collapse_is_what_comes_after_variety():
    watch = gan.CollapseWatch()
    windows = [0.05, 0.05, 0.3, 0.9, 0.15, 0.05, 0.05, 0.8, 0.02]
    happened = [watch.happened(diversity) for diversity in windows]
    assert [i for i, did in enumerate(happened) if did] == [5, 8]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"batch_size": 2000}, "1437 images, fewer than config.batch_size = 2000"),
        ({"batch_size": 33}, "config.batch_size = 33 is not divisible by 2 devices"),
        ({"model.image_size": 9}, "image_size 9 is not reached"),
        ({"model.discriminator.widths": (8,) * 4}, "config.model.discriminator"),
        ({"model.generator.name": "nest"}, "no generator 'nest'; there are"),
        ({"loss": "wgan"}, "config.loss = 'wgan'"),
        ({"augmentations": ("colour",)}, "'colour'; there are: color, translation"),
        ({"ema_decay": 1.0}, "config.ema_decay = 1.0"),
        ({"num_steps": 0}, "config.num_steps = 0; it must be at least 1"),
        ({"r1_gamma": float("nan")}, "config.r1_gamma = nan"),
    ],
)
def test_bad_configs_are_one_line(overrides, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        gan.train(small_config(**overrides), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_workdir_of_a_classifier_is_refused(tmp_path):
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    (tmp_path / "config.json").write_text(digits_nest.get_config().to_json())
    with pytest.raises(UserError, match="holds a run of the task 'classifier'"):
        gan.train(small_config(), tmp_path)


@pytest.mark.parametrize(
    ("module", "generator"),
    [
        (digits_generator, "nest"),
        (digits_generator, "conv"),
        (cifar_generator, "nest"),
        (cifar_generator, "sagan"),
        (imagenet64_generator, "nest"),
        (imagenet64_generator, "transgan"),
        (imagenet64_generator, "sagan"),
    ],
)
def test_every_config_fits_together(module, generator):
    config = module.get_config(generator)
    gan.gan_check.check(config, devices.data_mesh())
    _, _, state = jax.eval_shape(
        lambda: (None, None, gan_setup.build_state(config, devices.data_mesh())[2])
    )
    assert jax.tree.leaves(state.generator) and jax.tree.leaves(state.discriminator)


def test_an_unknown_generator_of_a_config_is_one_line():
    with pytest.raises(UserError, match="use nest or conv"):
        digits_generator.get_config("transgan")
