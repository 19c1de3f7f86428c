"""The small programs in scripts/ that have no test file of their own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, random_weights
from PIL import Image

from nest.augment.recipe import normalize
from nest.weights import read_weights, write_weights


def run(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / script), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


CIFAR = (
    f"--config={ROOT / 'configs' / 'cifar_nest.py'}",
    "--config.data.source=synthetic",
    "--config.data.dataset=10x64x32",
    "--config.model.layers=(1, 1, 1, 1)",
    "--config.model.widths=(8, 8, 8, 8)",
    "--config.model.heads=(2, 2, 2, 2)",
)


def test_show_augmentations_draws_a_row_per_operation(tmp_path: Path):
    completed = run(
        "show_augmentations.py", *CIFAR, "--images=4", "--rows=2", cwd=tmp_path
    )
    assert completed.returncode == 0, completed.stderr
    # As read, 16 operations, three parts alone, two of the whole.
    assert completed.stdout == "22 rows of 4 images: augmentations.png\n"
    with Image.open(tmp_path / "augmentations.png") as image:
        assert image.size[1] == 22 * 64


def test_show_augmentations_mixes_pairs(tmp_path: Path):
    completed = run("show_augmentations.py", *CIFAR, "--images=3", cwd=tmp_path)
    assert completed.returncode == 1
    assert completed.stderr.splitlines()[-1] == (
        "show_augmentations.py: --images=3 is odd, but images mix in pairs"
    )


def test_benchmark_input_measures(tmp_path: Path):
    completed = run(
        "benchmark_input.py",
        *CIFAR,
        "--config.batch_size=8",
        "--rounds=1",
        "--batches=2",
        "--step_batch_size=4",
        cwd=tmp_path,
    )
    assert completed.returncode == 0, completed.stderr
    assert "in memory" in completed.stdout
    assert "of it the recipe" in completed.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A small model with random weights, and large enough differences of its logits."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    model = dict(
        name="nest_tiny_s16_32",
        image_size=8,
        num_classes=3,
        gelu="tanh",
        layers=(1, 1),
        widths=(8, 8),
        heads=(2, 2),
    )
    weights = random_weights(
        model,
        scale=1.0,
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.6, 0.7),
        eval_crop=1.0,
        class_names=("cat", "dog", "eel"),
    )
    write_weights(weights, path)
    return path


def some_images(folder: Path, count: int = 3) -> np.ndarray:
    images = np.random.default_rng(1).integers(0, 256, (count, 8, 8, 3), np.uint8)
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k}.png")
    return images


def logits_of(weights: Path, images: np.ndarray) -> np.ndarray:
    read = read_weights(weights)
    return np.asarray(read.build()(normalize(images / 255, read.mean, read.std)))


def test_predict_answers_all_it_can_read(weights: Path, tmp_path: Path):
    images = some_images(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no image")
    files = ["0.png", "broken.png", "1.png", "missing.png", "2.png"]
    arguments = [f"--weights={weights}", "--json", "--top=2", "--batch_size=2"]
    completed = run("predict.py", *files, *arguments, cwd=tmp_path)
    assert completed.returncode == 1
    told = completed.stderr.splitlines()
    assert told[0].startswith("broken.png is not a readable image")
    assert told[1] == "missing.png is not a readable image (No such file or directory)"
    assert told[-1] == "predict.py: 2 of 5 files could not be read"
    answers = [json.loads(line) for line in completed.stdout.splitlines()]
    assert [answer["file"] for answer in answers] == ["0.png", "1.png", "2.png"]
    logits = logits_of(weights, images).astype(float)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for answer, row in zip(answers, shares, strict=True):
        best = np.argsort(-row)[:2]
        found = [x["class"] for x in answer["predictions"]]
        assert found == [("cat", "dog", "eel")[k] for k in best]
        probabilities = [x["probability"] for x in answer["predictions"]]
        np.testing.assert_allclose(probabilities, row[best], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.png"], "give either --weights or --workdir"),
        (["--weights=a"], "give IMAGES...; see --help"),
        (["x.png", "--weights=nowhere"], "no file or folder nowhere"),
    ],
)
def test_predict_says_what_it_needs(tmp_path: Path, arguments: list, message: str):
    completed = run("predict.py", *arguments, cwd=tmp_path)
    assert completed.returncode in (1, 2)
    assert message in completed.stderr.splitlines()[-1]


RELOAD = """
import sys
import numpy, jax
from jax import export
program = export.deserialize(open("model.jaxexport", "rb").read())
for count in (1, 3):
    images = numpy.load("images.npy")[:count]
    numpy.save(f"logits{count}.npy", program.call(images))
assert not {"flax", "nest"} & set(sys.modules)
"""


def test_an_export_runs_without_flax_and_this_project(weights: Path, tmp_path: Path):
    completed = run("export.py", f"--weights={weights}", cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    about = json.loads((tmp_path / "model.jaxexport.json").read_text())
    assert about["class_names"] == ["cat", "dog", "eel"]
    assert about["input"].startswith("uint8 (batch, 8, 8, 3)")
    images = some_images(tmp_path)
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-I", "-c", RELOAD]
    subprocess.run(command, cwd=tmp_path, check=True)
    expected = logits_of(weights, images)
    for count in (1, 3):
        logits = np.load(tmp_path / f"logits{count}.npy")
        np.testing.assert_allclose(logits, expected[:count], rtol=1e-5, atol=1e-5)


def test_benchmark_generators_compares_with_transgan(tmp_path: Path):
    completed = run(
        "benchmark_generators.py",
        "--names=nest_generator_16",
        "--batch_size=1",
        "--rounds=1",
        "--json=figures.json",
        cwd=tmp_path,
    )
    assert completed.returncode == 0, completed.stderr
    (row,) = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert f"| {row['parameters'] / 1e6:.1f}M |" in completed.stdout
    assert row["images_per_second"] > 0
    # The parameters alone are in the memory of a call.
    assert row["peak_bytes"] > 4 * row["parameters"]


def test_benchmark_generators_names_what_there_is(tmp_path: Path):
    completed = run("benchmark_generators.py", "--names=biggan", cwd=tmp_path)
    assert completed.returncode == 1
    assert completed.stderr.startswith(
        "benchmark_generators.py: no generator 'biggan'; there are: nest_generator_16"
    )
