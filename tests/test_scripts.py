"""The small programs in scripts/ that have no test file of their own."""

import subprocess
import sys
from pathlib import Path

from conftest import ROOT
from PIL import Image


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
        "--step_batch_size=2",
        cwd=tmp_path,
    )
    assert completed.returncode == 0, completed.stderr
    assert "in memory" in completed.stdout
    assert "of it the recipe" in completed.stdout.splitlines()[-1]
