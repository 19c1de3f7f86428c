"""Boxes of objects: from a source, a CSV file, or the official ImageNet archive."""

import csv
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from nest.data.images import Picture, center_crop
from nest.data.reader import Reader
from nest.data.sources import Source
from nest.errors import UserError

Box = tuple[float, float, float, float]
FIELDS = ("left", "top", "right", "bottom")


def open_boxes(file: str, source: Source) -> Callable[[int], tuple[Box, ...]]:
    """Return a function from an example's index to its boxes; () where none is known.

    A box is left, top, right, bottom in pixels of the image as stored, the last two
    exclusive.

    Args:
      file: "" for the source's own. Else a CSV with a header and the columns name,
        left, top, right, bottom; or ImageNet's tar or tar.gz of one XML per image
        (ILSVRC2012_bbox_val_v3.tgz). Names are those of the image files without folder
        and suffix, so the source must be one that knows them, such as "folder".

    Raises:
      UserError: the file is missing, of another form, or fits no image of the source.
    """
    if not file:
        if source.boxes is None:
            raise UserError(
                "this data source knows no boxes; give a CSV or ImageNet's XML archive "
                "in config.localization.boxes"
            )
        return source.boxes
    path = Path(file).expanduser()
    try:
        found = _read_csv(path) if path.suffix == ".csv" else _read_archive(path)
    except FileNotFoundError as error:
        raise UserError(
            f"no file {path}; get ILSVRC2012_bbox_val_v3.tgz from image-net.org, or "
            f"write a CSV with the columns name,{','.join(FIELDS)}"
        ) from error
    except (
        tarfile.TarError,
        ElementTree.ParseError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:
        raise UserError(
            f"{path} holds no boxes: {error}; expected a .csv with the columns name,"
            f"{','.join(FIELDS)}, or a tar of ImageNet's XML files"
        ) from error
    if not any(_name(source, i) in found for i in range(source.num_examples)):
        raise UserError(
            f"{path} has boxes of {len(found)} images, but of none in this split, its "
            f"first called {_name(source, 0)!r}; check config.localization.boxes"
        )
    return lambda i: tuple(found.get(_name(source, i), ()))


def read_with_boxes(
    reader: Reader,
    boxes: Callable[[int], tuple[Box, ...]],
    *,
    size: int,
    crop_fraction: float,
) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """Yield every readable example with a box inside the crop.

    Args:
      boxes: as `open_boxes` returns it.
      size, crop_fraction: see `nest.data.images.center_crop`.

    Yields:
      The image, uint8 (size, size, 3), its label, and its boxes in pixels of the crop,
      float64 (n, 4), cut off at its border.
    """
    for i in range(reader.source.num_examples):
        sides = []

        def crop(picture: Picture, sides: list = sides) -> np.ndarray:
            sides[:] = picture.height, picture.width
            return center_crop(picture, size, fraction=crop_fraction)

        example = reader.read(i, crop)
        if example is None:
            continue
        inside = [crop_box(box, *sides, size, crop_fraction) for box in boxes(i)]
        inside = [box for box in inside if box[0] < box[2] and box[1] < box[3]]
        if inside:
            yield *example, np.array(inside, np.float64)


def crop_box(box: Box, height: int, width: int, size: int, fraction: float) -> Box:
    """Follow a box through `center_crop`, cut off at the border of the crop.

    Args:
      box: in pixels of an image of this height and width.
    """
    short = round(size / fraction)
    scale = short / min(height, width)
    tall, wide = (max(size, round(side * scale)) for side in (height, width))
    top, left = (tall - size) // 2, (wide - size) // 2
    x, y = wide / width, tall / height

    def clip(value: float) -> float:
        return min(max(value, 0.0), float(size))

    return (
        clip(box[0] * x - left),
        clip(box[1] * y - top),
        clip(box[2] * x - left),
        clip(box[3] * y - top),
    )


def _name(source: Source, i: int) -> str:
    return Path(source.describe(i)).stem


def _read_csv(path: Path) -> dict[str, list[Box]]:
    found: dict[str, list[Box]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            box = tuple(float(row[field]) for field in FIELDS)
            found.setdefault(Path(row["name"]).stem, []).append(box)
    return found


def _read_archive(path: Path) -> dict[str, list[Box]]:
    """ImageNet's corners are inclusive and count from 0."""
    found: dict[str, list[Box]] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if not member.name.endswith(".xml"):
                continue
            root = ElementTree.parse(archive.extractfile(member)).getroot()
            for box in root.iterfind("object/bndbox"):
                left, top, right, bottom = (
                    float(box.findtext(name))
                    for name in ("xmin", "ymin", "xmax", "ymax")
                )
                found.setdefault(Path(member.name).stem, []).append(
                    (left, top, right + 1, bottom + 1)
                )
    return found
