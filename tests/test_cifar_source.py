"""nest.data.sources.cifar, on archives laid out as the original ones."""

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from nest.data.sources import Source, open_source
from nest.data.sources.cifar import FILES, VERSIONS
from nest.errors import UserError

PER_FILE = 3


def pixels(name: str) -> np.ndarray:
    """Planes of 1,024 red, green and blue values, as the archives have them."""
    rng = np.random.default_rng(list(name.encode()))
    return rng.integers(0, 256, (PER_FILE, 3072), np.uint8)


def labels(name: str, dataset: str) -> np.ndarray:
    rng = np.random.default_rng(list(name.encode()))
    return rng.integers(0, 10 if dataset == "cifar10" else 100, PER_FILE)


def write(root: Path, dataset: str, version: str) -> Path:
    """Write the folder that the archive unpacks to."""
    folder = root / VERSIONS[dataset][version][1]
    folder.mkdir(parents=True)
    fine = dataset == "cifar100"
    classes = [f"class{k}" for k in range(100 if fine else 10)]
    for split in ("train", "test"):
        for name in FILES[dataset, split]:
            image, label = pixels(name), labels(name, dataset)
            if version == "python":
                key = b"fine_labels" if fine else b"labels"
                content = pickle.dumps(
                    {b"data": image, key: label.tolist(), b"batch_label": b"x"},
                    protocol=2,
                )
                (folder / name).write_bytes(content)
            else:
                before = [np.zeros_like(label)] if fine else []
                rows = np.column_stack([*before, label, image]).astype(np.uint8)
                (folder / f"{name}.bin").write_bytes(rows.tobytes())
    if version == "python":
        key = b"fine_label_names" if fine else b"label_names"
        meta = pickle.dumps({key: [x.encode() for x in classes]}, protocol=2)
        (folder / ("meta" if fine else "batches.meta")).write_bytes(meta)
    else:
        meta = "fine_label_names.txt" if fine else "batches.meta.txt"
        (folder / meta).write_text("\n".join(classes) + "\n\n")
    return folder


def opened(root: Path, dataset: str = "cifar10", split: str = "train") -> Source:
    return open_source("cifar", dataset=dataset, data_dir=str(root), split=split)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_every_version_reads_the_same(tmp_path, dataset: str, version: str, packed):
    folder = write(tmp_path / "made", dataset, version)
    root = folder.parent
    if packed:
        root = tmp_path / "packed"
        root.mkdir()
        with tarfile.open(root / VERSIONS[dataset][version][0], "w:gz") as tar:
            tar.add(folder, folder.name)
    for split in ("train", "test"):
        source = opened(root, dataset, split)
        names = FILES[dataset, split]
        assert source.num_examples == PER_FILE * len(names)
        assert source.class_names[-1] == (
            "class9" if dataset == "cifar10" else "class99"
        )
        for k, name in enumerate(names):
            for i in range(PER_FILE):
                image, label = source.read(k * PER_FILE + i)
                planes = pixels(name)[i].reshape(3, 32, 32)
                np.testing.assert_array_equal(np.moveaxis(image, -1, 0), planes)
                assert label == labels(name, dataset)[i]


class Payload:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("executed"),))


def test_a_pickle_with_code_is_refused_unread(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path, "cifar10", "python")
    (folder / "test_batch").write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(
        UserError, match=r"cannot be read \(it asks for __builtin__.getattr"
    ):
        opened(tmp_path, split="test")
    assert not Path("executed").exists()


def test_what_is_wrong_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"no cifar-10-python\.tar\.gz or cifar-10-bin"):
        opened(tmp_path)
    with pytest.raises(UserError, match="use cifar10 or cifar100"):
        opened(tmp_path, "cifar11")
    with pytest.raises(UserError, match="splits 'train' and 'test', not 'val'"):
        opened(tmp_path, split="val")
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"\x1f\x8b half a download")
    with pytest.raises(UserError, match=r"cannot be read .*; download cifar-10-python"):
        opened(tmp_path)
    archive.unlink()
    folder = write(tmp_path, "cifar10", "binary")
    file = folder / "test_batch.bin"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UserError, match="cannot be read"):
        opened(tmp_path, split="test")
