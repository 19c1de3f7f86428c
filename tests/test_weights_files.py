"""nest.weights.files: nothing half written, nothing run, one line for every trouble."""

import os
import pickle
import resource
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from nest.errors import UserError
from nest.weights.files import read_safetensors, read_torch, write_safetensors

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, "f4")}


def test_what_is_written_is_read(tmp_path: Path):
    file = tmp_path / "a.safetensors"
    turned = {"t": ARRAYS["a"].T}  # not in one piece in memory
    write_safetensors(file, ARRAYS | turned, {"nest": '{"x": 1}'})
    arrays, metadata = read_safetensors(file)
    assert metadata == {"nest": '{"x": 1}'}
    for name, array in (ARRAYS | turned).items():
        np.testing.assert_array_equal(arrays[name], array)
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_the_same_weights_are_the_same_bytes(tmp_path: Path):
    contents = set()
    for name in "ab":
        write_safetensors(tmp_path / name, ARRAYS, {"nest": "{}"})
        contents.add((tmp_path / name).read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("cut", [0, 5, 30, -3])
def test_a_truncated_file_is_one_line(cut: int, tmp_path: Path):
    file = tmp_path / "a.safetensors"
    write_safetensors(file, ARRAYS, {})
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"or damaged .* get it again") as caught:
        read_safetensors(file)
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path):
    """A limit on the size of files stands in for a full disk: the write fails."""
    file = tmp_path / "a.safetensors"
    write_safetensors(file, ARRAYS, {})
    before = file.read_bytes()
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be written \(File too large\)"):
            write_safetensors(file, {"a": np.ones(100_000, "f4")}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_where_nothing_can_be_written_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match=r"none/a.safetensors cannot be .* \(No such"):
        write_safetensors(tmp_path / "none" / "a.safetensors", ARRAYS, {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="it is a folder"):
        write_safetensors(tmp_path / "folder", ARRAYS, {})
    assert os.listdir(tmp_path) == ["folder"]


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("container", ["pickle", "torch"])
@pytest.mark.parametrize("suffix", [".pth", ".bin"])
def test_code_in_a_pickle_does_not_run(container: str, suffix: str, tmp_path: Path):
    file, marker = tmp_path / f"a{suffix}", tmp_path / "ran"
    content = {"head.weight": Payload(marker)}
    if container == "torch":
        pytest.importorskip("torch").save(content, file)
    else:
        file.write_bytes(pickle.dumps(content))
        pickle.loads(file.read_bytes())
        assert marker.exists()  # it does run where it is let
        marker.unlink()
    with pytest.raises(UserError, match=r"could run code|install torch") as caught:
        read_torch(file)
    assert not marker.exists()
    assert "\n" not in str(caught.value)


def test_without_pytorch_a_pth_is_one_line(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"install torch .* or convert it to .safeten"):
        read_torch(tmp_path / "a.pth")


@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
def test_tensors_in_a_pth_are_read(nested: str | None, tmp_path: Path):
    torch = pytest.importorskip("torch")
    half = torch.tensor([0.5, 3.0], dtype=torch.bfloat16)
    content = {"module.a": torch.ones(2, 3), "b": half, "epoch": 3}
    torch.save({nested: content} if nested else content, tmp_path / "a.pth")
    arrays = read_torch(tmp_path / "a.pth")
    assert arrays.keys() == {"a", "b"}
    np.testing.assert_array_equal(arrays["b"], np.array([0.5, 3.0], np.float32))


def test_the_average_in_a_pth_comes_first(tmp_path: Path):
    torch = pytest.importorskip("torch")
    content = {
        "state_dict": {"a": torch.ones(1)},
        "state_dict_ema": {"a": torch.ones(2)},
    }
    torch.save(content, tmp_path / "a.pth")
    assert read_torch(tmp_path / "a.pth")["a"].shape == (2,)


def test_a_pth_of_something_else_is_one_line(tmp_path: Path):
    torch = pytest.importorskip("torch")
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(UserError, match="holds no parameters, but a list"):
        read_torch(tmp_path / "a.pth")
