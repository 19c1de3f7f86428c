"""The real images that generated ones are compared with, and what is kept of them."""

import dataclasses
import hashlib
import json
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nest.data.pipeline import EvalBatches, Host
from nest.data.reader import Reader
from nest.data.sources import Source
from nest.errors import UserError

FIRST = 16  # images whose pixels stand for all, to notice a folder that was exchanged

# What numpy raises for a file that is cut off or changed; a zip has checksums.
DAMAGE = (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile, zlib.error)


@dataclasses.dataclass(frozen=True)
class RealImages:
    """Some images of a split, and their names.

    Attributes:
      dataset, split: as the results and the cache call them.
      count: of images in all batches; those that cannot be read may be missing.
      image_size: in pixels.
      batches: starts a pass over uint8 batches (n, image_size, image_size, 3), always
        the same images in the same order.
    """

    dataset: str
    split: str
    count: int
    image_size: int
    batches: Callable[[], Iterable[np.ndarray]]

    def __str__(self) -> str:
        return f"{self.dataset}/{self.split}"

    def key(self) -> dict[str, Any]:
        """Return what identifies these images, as JSON: the names and some pixels.

        Raises:
          UserError: there are none.
        """
        first = next((batch for batch in self.batches() if len(batch)), None)
        if first is None:
            raise UserError(f"there are no images in {self}; check --config.data")
        return {
            "dataset": self.dataset,
            "split": self.split,
            "count": self.count,
            "image_size": self.image_size,
            "first": hashlib.sha256(first[:FIRST].tobytes()).hexdigest(),
        }


def real_images(
    source: Source,
    *,
    dataset: str,
    split: str,
    image_size: int,
    eval_crop: float,
    count: int = 0,
    batch_size: int = 256,
    in_memory: bool = False,
    threads: int = 8,
    skip_corrupt: bool = False,
) -> RealImages:
    """Take images of a split, or a fixed random choice of them, as a generator does.

    Args:
      dataset, split: what to call them.
      image_size: in pixels; they are resized and cut as for evaluation.
      eval_crop: see `nest.data.images.center_crop`.
      count: of images, all if 0.
      in_memory, threads: see `nest.data.pipeline.EvalBatches`.
      skip_corrupt: leave unreadable images out instead of stopping.

    Raises:
      UserError: the split has fewer images.
    """
    if count > source.num_examples:
        raise UserError(
            f"{dataset}/{split} has {source.num_examples} images, not {count}; ask for "
            f"fewer"
        )
    if 0 < count < source.num_examples:
        # Folders and archives are sorted by class, so the first would not do.
        order = np.random.default_rng(0).permutation(source.num_examples)[:count]
        chosen = [int(i) for i in np.sort(order)]
        source = dataclasses.replace(
            source,
            read=lambda i, whole=source: whole.read(chosen[i]),
            describe=lambda i, whole=source: whole.describe(chosen[i]),
            num_examples=count,
            boxes=None,
        )

    def batches() -> Iterator[np.ndarray]:
        passes = EvalBatches(
            Reader(source, skip_corrupt=skip_corrupt),
            size=image_size,
            batch_size=batch_size,
            host=Host(0, 1),
            in_memory=in_memory,
            eval_crop=eval_crop,
            threads=threads,
        )
        for batch in passes:
            yield batch["image"][batch["mask"]]

    return RealImages(dataset, split, source.num_examples, image_size, batches)


def collect(batches: Iterable[np.ndarray], image_size: int, name: str) -> np.ndarray:
    """Put batches together: uint8 (N, image_size, image_size, 3).

    Args:
      name: of the images, for messages.

    Raises:
      UserError: there are none.
      ValueError: images of another type or size.
    """
    parts = [np.asarray(batch) for batch in batches]
    for part in parts:
        if part.dtype != np.uint8 or part.shape[1:] != (image_size, image_size, 3):
            raise ValueError(
                f"{name}: images are {part.dtype} {part.shape}, not uint8 "
                f"(n, {image_size}, {image_size}, 3)"
            )
    if not sum(map(len, parts)):
        raise UserError(f"there are no images in {name}, nothing can be measured")
    return np.concatenate(parts)


def default_cache() -> Path:
    """Return the folder "nest" in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nest"


def cache_name(key: dict[str, Any]) -> str:
    """Return a file name without its ending: readable, and different for every key."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    about = f"{key['dataset']}-{key['split']}-{key['count']}x{key['image_size']}"
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '_', about)[:80]}-{digest[:16]}"


def cached(
    folder: Path, key: dict[str, Any], compute: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return what `compute` gave for this key before, or call it and keep the result.

    A damaged file is computed anew; where nothing can be written, a line on standard
    error says so. Processes may share the folder.

    Args:
      key: JSON, everything the result depends on; with the fields of `RealImages.key`.
    """
    file = folder / f"{cache_name(key)}.npz"
    told = json.dumps(key, sort_keys=True)
    try:
        # Opened here: numpy leaves a damaged file open.
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        if arrays.pop("key").item() == told:
            return arrays
    except FileNotFoundError:
        pass
    except DAMAGE as error:
        reason = str(error).split("\n")[0]
        print(f"{file} is damaged ({reason}); computed anew", file=sys.stderr)
    arrays = compute()
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as out:
                np.savez(out, key=np.array(told), **arrays)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        print(
            f"{file} cannot be written ({error.strerror}), so the next run computes "
            f"it again; give another cache folder",
            file=sys.stderr,
        )
    return arrays
