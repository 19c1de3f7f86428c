"""scripts/reproduce.py and scripts/sweep.py with real, tiny trainings."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

TINY = ("model.layers=(1,1)", "model.widths=(8,8)", "model.heads=(2,2)")
# Most of a start is the compilation of the augmentation, which is not the matter here.
PLAIN = (
    "augment.randaugment.layers=0",
    "augment.random_erasing.probability=0",
    "augment.shift=0",
)
SHORT = ("num_epochs=2", "warmup_epochs=0.5", "log_every_steps=5")


def start(script: str, *arguments: str, cwd: Path) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "scripts" / script), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, stdout=pipe, stderr=pipe, text=True)


def test_an_unknown_table_is_one_line(tmp_path: Path):
    process = start("reproduce.py", "mnist", cwd=tmp_path)
    _, told = process.communicate()
    assert process.returncode == 1
    assert told.startswith("reproduce.py: no table 'mnist'; there are: cifar10, ")
    assert told.count("\n") == 1


@pytest.mark.slow
def test_a_stopped_row_goes_on_and_a_finished_one_stays(tmp_path: Path):
    arguments = (
        "augmentation",
        "--scale=digits",
        "--rows=no_mixing",
        "--seeds=1",
        *(f"--set={setting}" for setting in (*TINY, *PLAIN, *SHORT)),
    )
    folder = tmp_path / "runs" / "tables" / "digits"
    workdir = folder / "no_mixing" / "seed1"
    process = start("reproduce.py", *arguments, cwd=tmp_path)
    deadline = time.monotonic() + 120
    metrics = workdir / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()):  # the first log line
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in told
    assert "| stopped at step " in (folder / "augmentation.md").read_text()

    process = start("reproduce.py", *arguments, cwd=tmp_path)
    told, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    assert "no_mixing, seed 1 ended after" in told
    assert "resuming at step" in (workdir / "log.txt").read_text()
    line = next(x for x in told.splitlines() if x.startswith("| without MixUp"))
    lines = map(json.loads, metrics.read_text().splitlines())
    top1 = [line["eval/top1"] for line in lines if "eval/top1" in line][-1]
    assert f"| {100 * top1:.2f} |" in line

    process = start("reproduce.py", *arguments, cwd=tmp_path)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert told.startswith("no_mixing, seed 1 is finished in runs/tables/digits/no_mix")
    assert len(json.loads((workdir / "run.json").read_text())) == 2


@pytest.mark.slow
def test_a_sweep_trains_its_trial(tmp_path: Path):
    arguments = (
        "--config=configs/digits_nest.py",
        *(f"--config.{setting}" for setting in (*TINY, "num_epochs=0.2")),
        "--config.warmup_epochs=0",
        "lr_per_256=1e-2",
        f"--folder={tmp_path / 'sweep'}",
    )
    process = start("sweep.py", *arguments, cwd=ROOT)
    told, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert told.count("finished at step 9") == 1
    assert len(list((tmp_path / "sweep").glob("sweep-*.png"))) == 1
    config = tmp_path / "sweep" / "lr_per_256=1e-2" / "config.json"
    assert json.loads(config.read_text())["lr_per_256"] == 1e-2
