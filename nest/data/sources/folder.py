"""Own images, without any code: a folder of class folders.

Either `DIR/train/CLASS/*.jpg` and `DIR/test/CLASS/*.jpg` (or whatever the splits are
called), or `DIR/CLASS/*.jpg` with a share of every class held out for "test".
"""

import functools
import hashlib
import os
from pathlib import Path

from PIL import Image

from nest.data.sources.source import Source
from nest.errors import UserError


def open_folder(data_dir: str, split: str, holdout: float) -> Source:
    """Open a split; a class is called like its folder, labels go by name.

    Args:
      split: the name of a folder in `data_dir`; or "train" or "test" where `data_dir`
        has the class folders itself and `holdout` is positive.
      holdout: share of each class for "test", [0, 1). Which images it takes depends on
        their names alone: adding some moves no other from one split to the other.

    Raises:
      UserError: no such folder or split, or a class without images.
    """
    root = Path(data_dir).expanduser()
    if not data_dir or not root.is_dir():
        raise UserError(
            f"no folder {data_dir!r}; point --config.data.data_dir at a folder of "
            f"class folders"
        )
    if not _folders(root):
        raise UserError(
            f"{root} has no folders in it; expected {root}/CLASS/*.jpg or "
            f"{root}/{split}/CLASS/*.jpg"
        )
    has_splits = any(map(_folders, (root / split, root / "train")))
    splits = _folders(root) if has_splits else []
    if splits:
        names = sorted({each.name for folder in splits for each in _folders(folder)})
        if split not in [folder.name for folder in splits]:
            raise UserError(
                f"{root} has the splits {', '.join(x.name for x in splits)}, not "
                f"{split!r}; set config.data.train_split and config.data.eval_split"
            )
        root = root / split
        there = [name for name in names if (root / name).is_dir()]
        files = {name: image_files(root / name) for name in there}
    else:
        names = [folder.name for folder in _folders(root)]
        files = {name: image_files(root / name) for name in names}
    for name, found in files.items():
        if not found:
            raise UserError(
                f"class folder {root / name} holds no image; fill or remove it"
            )
    if split == "train" and len(files) < len(names):
        missing = sorted(set(names) - set(files))
        raise UserError(
            f"{root} has no folder for the class(es) {', '.join(missing)} of other "
            f"splits; every class needs training images"
        )
    if not splits:
        files = _held_out(root, files, split, holdout)
    examples = [(path, names.index(name)) for name in files for path in files[name]]

    def read(i: int) -> tuple[bytes, int]:
        path, label = examples[i]
        return path.read_bytes(), label

    return Source(read, len(examples), tuple(names), lambda i: str(examples[i][0]))


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(
        x for x in path.iterdir() if x.is_dir() and not x.name.startswith(".")
    )


def image_files(path: Path) -> list[Path]:
    """Return all image files below a folder, by their names."""
    suffixes = _suffixes()
    return sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in suffixes
        and not file.name.startswith(".")
        and file.is_file()
    )


@functools.cache
def _suffixes() -> frozenset[str]:
    """Those of the formats that Pillow reads."""
    return frozenset(
        suffix
        for suffix, kind in Image.registered_extensions().items()
        if kind in Image.OPEN
    )


def _held_out(
    root: Path, files: dict[str, list[Path]], split: str, holdout: float
) -> dict[str, list[Path]]:
    if not holdout:
        raise UserError(
            f"{root} has class folders but no split {split!r}; set "
            f"--config.data.holdout=0.1 to hold out a tenth for 'test'"
        )
    if split not in ("train", "test"):
        raise UserError(
            f"a folder with config.data.holdout has the splits 'train' and 'test', not "
            f"{split!r}"
        )

    def order(path: Path) -> bytes:
        name = path.relative_to(root).as_posix()
        return hashlib.sha256(os.fsencode(name)).digest()

    def is_test(path: Path) -> bool:
        return int.from_bytes(order(path)[:4]) < holdout * 2**32

    parts = {}
    for name, found in files.items():
        test = {path for path in found if is_test(path)}
        if len(found) < 2:
            raise UserError(
                f"class folder {root / name} holds a single image; it needs one to "
                f"train and one to test"
            )
        # Neither split may lack a class: the nearest image steps in.
        if not test:
            test = {min(found, key=order)}
        elif len(test) == len(found):
            test.remove(max(found, key=order))
        parts[name] = [path for path in found if (path in test) == (split == "test")]
    return parts
