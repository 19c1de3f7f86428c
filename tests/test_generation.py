"""A GAN's run, generated from and evaluated: scripts/generate.py and evaluate.py."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, tiny_gan
from PIL import Image

from nest.errors import UserError
from nest.generation import evaluation
from nest.generation.loading import load_generator
from nest.generation.sampling import noise_of_seeds
from nest.training import classifier, gan

EVALUATION = {
    "num_steps": 2,
    "evaluation.num_samples": 90,
    "evaluation.batch_size": 64,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gan")
    gan.train(tiny_gan(**EVALUATION), path)
    return path


@pytest.fixture
def judge(tmp_path, small_config) -> Path:
    classifier.train(small_config, tmp_path / "judge")
    return tmp_path / "judge"


def generate(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "generate.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_an_image_depends_on_its_seed_alone(run):
    generator = load_generator(run, "latest")
    assert (generator.step, generator.image_size) == (2, 8)

    def images(seeds: list[int], batch_size: int) -> np.ndarray:
        noise = noise_of_seeds(seeds, generator.noise_size)
        return np.concatenate(list(generator.sample(noise, batch_size=batch_size)))

    together = images([3, 4, 5], 3)
    assert together.shape == (3, 8, 8, 3)
    # Matrix products of other shapes round otherwise: a level of grey at most.
    difference = together.astype(int) - images([3, 4, 5], 2)
    assert abs(difference).max() <= 1
    assert abs(together[2].astype(int) - images([5], 1)[0]).max() <= 1


def test_generate_writes_a_grid_an_archive_and_a_folder(run, tmp_path):
    for out in ("grid.png", "all.npz", "folder"):
        done = generate(f"--workdir={run}", "--num=5", f"--out={out}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"5 images of step 2 in {out}")
    with np.load(tmp_path / "all.npz") as content:
        images = content["images"]
    assert images.shape == (5, 8, 8, 3) and images.dtype == np.uint8
    files = sorted((tmp_path / "folder").iterdir())
    assert [file.name for file in files] == [f"seed00000{i}.png" for i in range(5)]
    np.testing.assert_array_equal(np.asarray(Image.open(files[4])), images[4])
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size[0] > 512 and grid.size[0] * 2 > grid.size[1] * 2.5


def test_generate_interpolates(run, tmp_path):
    arguments = ("--interpolate=3,7,9", "--steps=4", "--out=strip.npz")
    done = generate(f"--workdir={run}", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "strip.npz") as content:
        assert len(content["images"]) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir=nowhere"], "no run in nowhere"),
        ([], "give the run of a GAN"),
        (["--workdir=nowhere", "--out=file"], "is a file; use FILE.png, FILE.npz or a"),
        (["--workdir=nowhere", "--seeds=3,3", "--out=a"], "--seeds has one twice"),
        (["--workdir=nowhere", "--out=b/a.png"], "there is no folder b"),
    ],
)
def test_generate_names_what_is_wrong(arguments, message, tmp_path):
    (tmp_path / "file").touch()
    done = generate(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert message in line


def test_generate_refuses_a_classifier(judge):
    with pytest.raises(UserError, match="a run of the task 'classifier'"):
        load_generator(judge, "latest")


def test_evaluation_measures_samples_held_out_images_and_a_baseline(
    run, judge, capsys, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = tiny_gan(**EVALUATION)
    config.evaluation.classifier = str(judge)
    config.evaluation.baseline = str(run)
    evaluation.evaluate_checkpoint(config, run, "latest")
    *lines, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert found["num_real"] == 1437
    assert (found["samples/num_samples"], found["held_out/num_samples"]) == (90, 360)
    # The same run on the same seeds.
    for name in ("nest_recognised", "nest_frechet_distance", "num_samples"):
        assert found[f"samples/{name}"] == found[f"baseline/{name}"]
    assert (
        found["samples/nest_frechet_distance"] > found["held_out/nest_frechet_distance"]
    )
    assert any("not FID" in line and str(judge) in line for line in lines)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"evaluation.classifier": ""}, "nothing to judge by"),
        ({"evaluation.classifier": "nowhere"}, "nowhere"),
        ({"evaluation.num_samples": 1}, "num_samples = 1"),
        ({"evaluation.baseline": "nowhere"}, "no run in nowhere"),
        ({"model.image_size": 16}, "model.image_size was 8, now 16"),
    ],
)
def test_evaluation_names_what_is_wrong(run, overrides, message):
    config = tiny_gan(**EVALUATION | overrides)
    with pytest.raises(UserError, match=message):
        evaluation.evaluate_checkpoint(config, run, "latest")
