"""nest.command, train.py and evaluate.py: what a user can get wrong on the way in."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

DIGITS = f"--config={ROOT / 'configs' / 'digits_nest.py'}"


def run(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / program), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("program", "arguments", "status", "message"),
    [
        ("train.py", [], 2, "--config"),
        ("train.py", ["--config=configs/no_such.py"], 2, "configs/no_such.py"),
        ("train.py", [DIGITS, "--confg=1"], 2, "confg"),
        ("train.py", [DIGITS, "digits"], 2, "unexpected argument 'digits'"),
        ("train.py", [DIGITS, "--config.model.withs=(8, 8)"], 2, "withs"),
        ("train.py", [DIGITS, "--config.batch_size=many"], 2, "many"),
        ("train.py", [DIGITS, "--config.batch_size=1.5"], 2, "1.5"),
        ("train.py", [DIGITS, "--config.task=segment"], 1, "no task 'segment'"),
        (
            "train.py",
            [f"--config={ROOT / 'configs' / 'cifar_nest.py'}:huge"],
            2,
            "has no 'huge'; use tiny, small or base",
        ),
        (
            "train.py",
            [DIGITS, "--workdir=/proc/none"],
            1,
            "/proc/none cannot be written",
        ),
        ("evaluate.py", [DIGITS, "--workdir=nowhere"], 1, "no run in nowhere"),
        (
            "train.py",
            [
                f"--config={ROOT / 'configs' / 'cifar_nest.py'}",
                "--config.data.data_dir=empty",
            ],
            1,
            "cifar10 is not prepared in",
        ),
    ],
)
def test_a_mistake_is_one_line(program, arguments, status, message, tmp_path: Path):
    completed = run(program, *arguments, cwd=tmp_path)
    lines = completed.stderr.splitlines()
    assert completed.returncode == status, completed.stderr
    assert len(lines) == 1, completed.stderr
    assert lines[0].startswith(f"{program}: ") and message in lines[0]
    assert completed.stdout == ""
    assert not list(tmp_path.iterdir())


def test_the_default_workdir_is_named_after_the_config(tmp_path: Path):
    completed = run(
        "evaluate.py",
        f"--config={ROOT / 'configs' / 'cifar_nest.py'}:small_100",
        cwd=tmp_path,
    )
    assert "no run in runs/cifar_nest-small_100" in completed.stderr


def test_too_little_memory_is_one_line(tmp_path: Path):
    program = """
import jax.numpy
from nest import command
command.run(lambda: jax.numpy.zeros(2**50).block_until_ready())
"""
    completed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert completed.returncode == 1
    last = completed.stderr.splitlines()[-1]
    assert "out of memory (RESOURCE_EXHAUSTED" in last and "lower batch_size" in last
    assert "Traceback" not in completed.stderr
