"""CIFAR-10 and CIFAR-100 from their original archives, python or binary version.

https://www.cs.toronto.edu/~kriz/cifar.html; packed or unpacked, nothing is downloaded.
"""

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nest.data.sources.source import Source
from nest.errors import UserError

# Archive and its folder, by dataset and version.
VERSIONS = {
    "cifar10": {
        "python": ("cifar-10-python.tar.gz", "cifar-10-batches-py"),
        "binary": ("cifar-10-binary.tar.gz", "cifar-10-batches-bin"),
    },
    "cifar100": {
        "python": ("cifar-100-python.tar.gz", "cifar-100-python"),
        "binary": ("cifar-100-binary.tar.gz", "cifar-100-binary"),
    },
}
BATCHES = tuple(f"data_batch_{k}" for k in range(1, 6))
FILES = {
    ("cifar10", "train"): BATCHES,
    ("cifar10", "test"): ("test_batch",),
    ("cifar100", "train"): ("train",),
    ("cifar100", "test"): ("test",),
}
PIXELS = 3 * 32 * 32


def open_cifar(dataset: str, data_dir: str, split: str) -> Source:
    """Open "train" or "test" of "cifar10" or "cifar100".

    Args:
      data_dir: holds one of the archives, or the folder that it unpacks to.

    Raises:
      UserError: another dataset or split, nothing there, or a damaged archive.
    """
    if dataset not in VERSIONS:
        raise UserError(
            f"config.data.dataset = {dataset!r}; use {' or '.join(VERSIONS)}"
        )
    if split not in ("train", "test"):
        raise UserError(f"{dataset} has the splits 'train' and 'test', not {split!r}")
    root = Path(data_dir or ".").expanduser()
    for version, (archive, folder) in VERSIONS[dataset].items():
        load = _load_python if version == "python" else _load_binary
        try:
            if (root / folder).is_dir():
                loaded = load(_unpacked(root / folder), dataset, split)
            elif (root / archive).is_file():
                with tarfile.open(root / archive) as tar:
                    loaded = load(_packed(tar, folder), dataset, split)
            else:
                continue
        except MemoryError:
            raise
        except Exception as error:  # Damaged pickles raise anything.
            reason = " ".join(str(error).split())
            raise UserError(
                f"{dataset} in {root} cannot be read ({reason}); download {archive} "
                f"again"
            ) from error
        return _source(*loaded, f"{dataset} {split}")
    wanted = " or ".join(archive for archive, _ in VERSIONS[dataset].values())
    raise UserError(
        f"no {wanted} in {root}; download one from "
        f"https://www.cs.toronto.edu/~kriz/cifar.html and set --config.data.data_dir"
    )


def _source(
    images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...], name: str
) -> Source:
    return Source(
        read=lambda i: (images[i], int(labels[i])),
        num_examples=len(images),
        class_names=class_names,
        describe=lambda i: f"{name} image {i}",
    )


Read = Callable[[str], bytes]
Loaded = tuple[np.ndarray, np.ndarray, tuple[str, ...]]


def _unpacked(folder: Path) -> Read:
    return lambda name: (folder / name).read_bytes()


def _packed(tar: tarfile.TarFile, folder: str) -> Read:
    def read(name: str) -> bytes:
        file = tar.extractfile(f"{folder}/{name}")
        if file is None:
            raise KeyError(f"{name} is not a file")
        return file.read()

    return read


def _load_python(read: Read, dataset: str, split: str) -> Loaded:
    fine = dataset == "cifar100"
    batches = [_unpickle(read(name)) for name in FILES[dataset, split]]
    meta = _unpickle(read("meta" if fine else "batches.meta"))
    pixels = np.concatenate([batch[b"data"] for batch in batches])
    labels = [batch[b"fine_labels" if fine else b"labels"] for batch in batches]
    classes = meta[b"fine_label_names" if fine else b"label_names"]
    return _checked(pixels, np.concatenate(labels), [x.decode() for x in classes])


def _load_binary(read: Read, dataset: str, split: str) -> Loaded:
    fine = dataset == "cifar100"
    text = read("fine_label_names.txt" if fine else "batches.meta.txt").decode()
    before = 2 if fine else 1  # coarse and fine label, or the label
    rows = np.concatenate(
        [
            np.frombuffer(read(f"{name}.bin"), np.uint8).reshape(-1, before + PIXELS)
            for name in FILES[dataset, split]
        ]
    )
    return _checked(rows[:, before:], rows[:, before - 1], text.split())


def _checked(pixels: np.ndarray, labels: np.ndarray, classes: list[str]) -> Loaded:
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), PIXELS):
        raise ValueError(f"{len(labels)} labels, but pixels {pixels.shape}")
    if len(labels) == 0 or labels.max() >= len(classes):
        raise ValueError(f"a label outside of the {len(classes)} classes")
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # planes to pixels
    return np.ascontiguousarray(images), labels.astype(np.int32), tuple(classes)


class _Unpickler(pickle.Unpickler):
    """Rebuilds numpy arrays and nothing else: a pickle could run any program."""

    def find_class(self, module: str, name: str) -> Any:
        if module.removeprefix("numpy.").removeprefix("_") == "core.multiarray":
            if name == "_reconstruct":
                return np._core.multiarray._reconstruct
        elif module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        elif (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _encode_latin1(text: str, encoding: str) -> bytes:
    """How Python 3 pickles bytes in the old protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {encoding}")
    return text.encode("latin1")


def _unpickle(data: bytes) -> dict[bytes, Any]:
    return _Unpickler(io.BytesIO(data), encoding="bytes").load()
