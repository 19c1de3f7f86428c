"""scripts/explain.py, from the command line to its files, and what can go wrong."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from configs import digits_nest
from nest.errors import UserError
from nest.explain.inputs import find_classes, read_images
from nest.explain.loading import Classifier, load_workdir
from nest.explain.pictures import PANEL, colour, draw, scaled
from nest.explain.report import explain_images
from nest.training import classifier

EPOCH = 1437 / 32


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    """A run of two steps of a small tree."""
    path = tmp_path_factory.mktemp("run")
    config = digits_nest.get_config()
    config.model.layers = (1, 1)
    config.model.widths = (8, 8)
    config.model.heads = (2, 2)
    config.num_epochs = 2 / EPOCH
    config.warmup_epochs = 1 / EPOCH
    classifier.train(config, path)
    return path


@pytest.fixture(scope="module")
def loaded(workdir: Path) -> Classifier:
    return load_workdir(workdir, "latest")


def test_a_run_is_loaded_with_what_its_images_need(loaded):
    assert loaded.class_names == tuple("0123456789")
    assert loaded.image_size == loaded.model.image_size == 8
    assert loaded.mean == loaded.std == (0.5, 0.5, 0.5)


def test_the_command_writes_pictures_page_and_numbers(workdir: Path, tmp_path: Path):
    picture = tmp_path / "own.png"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(picture)
    out = tmp_path / "out"
    completed = subprocess.run(
        [
            sys.executable,
            str(ROOT / "scripts" / "explain.py"),
            str(picture),
            f"--workdir={workdir}",
            f"--out={out}",
            "--classes=7,2",
        ],
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr
    (numbers,) = json.loads((out / "explained.json").read_text())
    assert numbers["image"] == str(picture)
    assert [each["name"] for each in numbers["classes"]] == ["7", "2"]
    for each in numbers["classes"]:
        top, bottom = each["path"]
        assert top["box"] == [0, 0, 8, 8] and bottom["level"] == 1
        values = np.array(each["levels"][1]["values"])
        best = np.unravel_index(values.argmax(), values.shape)
        assert (bottom["row"], bottom["column"]) == best
        assert bottom["value"] == values.max()
        assert each["best_paths"][0]["blocks"] == each["path"]
    with Image.open(out / "000.png") as image:
        assert image.width > 8 * PANEL
    assert "own.png" in (out / "index.html").read_text()


def test_probabilities_and_the_most_likely_classes(loaded):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 8, 8, 3), np.uint8)
    rows = [(image, np.array([-1, -2, 4], np.int32)) for image in images]
    logits = loaded.model((images / 255 - 0.5) / 0.5)
    explained = list(explain_images(loaded, rows, width=2, sign=1, batch_size=2))
    for each, row in zip(explained, np.asarray(logits, np.float64), strict=True):
        first, second, fourth = each["classes"]
        order = np.argsort(-row, kind="stable")
        assert [first["class"], second["class"]] == order[:2].tolist()
        assert fourth["class"] == 4 and len(fourth["best_paths"]) == 2
        expected = np.exp(row[4]) / np.exp(row).sum()
        np.testing.assert_allclose(fourth["probability"], expected, rtol=1e-4)


def test_the_path_is_drawn_where_it_is(loaded):
    image = np.full((8, 8, 3), 90, np.uint8)
    rows = [(image, np.array([-1], np.int32))]
    (explained,) = explain_images(loaded, rows, width=1, sign=1, batch_size=1)
    sheet = np.asarray(draw(image, explained))
    yellow = (sheet == (255, 210, 0)).all(axis=-1)
    block = explained["classes"][0]["path"][-1]
    panel = yellow[34 : 34 + PANEL, 14 + 2 * (PANEL + 14) :][:, :PANEL]
    rows, columns = (np.flatnonzero(panel.any(axis)) for axis in (1, 0))
    half = PANEL // 2
    assert rows[0] == block["row"] * half and columns[0] == block["column"] * half
    assert rows[-1] == rows[0] + half - 1 and columns[-1] == columns[0] + half - 1


def test_colours():
    assert colour(0) == (255, 255, 255)
    assert colour(1)[0] > colour(1)[2] and colour(-1)[0] < colour(-1)[2]
    np.testing.assert_array_equal(scaled(np.zeros((2, 2))), 0)


def test_classes_by_name_and_number():
    names = ("cat", "1", "dog")
    assert find_classes(["dog", "1", "0"], names, most_likely=3) == [2, 1, 0]
    assert find_classes([], names, most_likely=5) == [-1, -2, -3]
    for wrong in ("3", "bird", "-1"):
        with pytest.raises(UserError, match=f"no class '{wrong}'; it has 3"):
            find_classes([wrong], names, most_likely=3)


def test_images_that_cannot_be_explained(loaded, tmp_path: Path):
    Image.new("RGB", (300, 1)).save(tmp_path / "thin.png")
    (tmp_path / "text.png").write_text("no image")
    for name, message in [
        ("thin.png", "300x1 pixels, too few for a model that sees 8"),
        ("text.png", "is not a readable image"),
        ("none.png", "no file"),
        (".", "is not a readable image"),
    ]:
        with pytest.raises(UserError, match=message):
            read_images([str(tmp_path / name)], loaded)


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("explain.py", ["--workdir=nowhere"], "no run in nowhere"),
        ("evaluate_explanations.py", ["--workdir=nowhere"], "no run in nowhere"),
        ("evaluate_explanations.py", ["--methods=magic"], "no method 'magic'"),
        ("benchmark_explain.py", ["--model=magic"], "no model 'magic'"),
    ],
)
def test_a_mistake_is_one_line(program, arguments, message, tmp_path: Path):
    command = [sys.executable, str(ROOT / "scripts" / program), *arguments]
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert completed.returncode == 1, completed.stderr
    (line,) = completed.stderr.splitlines()
    assert line.startswith(f"{program}: ") and message in line
    assert not list(tmp_path.iterdir())
