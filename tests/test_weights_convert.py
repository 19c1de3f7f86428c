"""scripts/convert_weights.py, as it is started."""

import subprocess
import sys
from pathlib import Path

from conftest import ROOT, assert_same_weights, random_weights, small_arguments

from nest.weights import read_weights, write_weights


def convert(cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts/convert_weights.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_ours_to_timms_and_back(tmp_path: Path):
    weights = random_weights(small_arguments("nest_tiny_s16_32"))
    write_weights(weights, tmp_path / "a.safetensors")
    there = convert(tmp_path, "a.safetensors", "b.safetensors", "--to=timm")
    assert there.returncode == 0, there.stderr
    assert "model    nest_tiny_s16_32 with" in there.stdout
    assert "img_size=16" in there.stdout and "GELUTanh" in there.stdout
    back = convert(
        tmp_path, "b.safetensors", "c.safetensors", "--to=nest", "--gelu=exact"
    )
    assert back.returncode == 0, back.stderr
    assert back.stdout.splitlines()[-1] == "written  c.safetensors, layout nest"
    assert_same_weights(read_weights(tmp_path / "b.safetensors"), weights)
    assert read_weights(tmp_path / "c.safetensors").model["gelu"] == "exact"


def test_a_mistake_is_one_line(tmp_path: Path):
    for arguments, status, message in (
        (["a"], 2, "give OUT; see --help"),
        (["a", "b", "c"], 2, "unexpected argument 'c'"),
        (["a", "b.safetensors"], 1, "no file or folder a;"),
        (["a", "b", "--layers=2,x"], 1, "--layers=2,x; give numbers"),
    ):
        completed = convert(tmp_path, *arguments)
        lines = completed.stderr.splitlines()
        assert completed.returncode == status and len(lines) == 1, completed.stderr
        assert lines[0].startswith("convert_weights.py: ") and message in lines[0]
    assert not list(tmp_path.iterdir())
