"""What the two tars of ILSVRC-2012 hold: which images, where, and of which class."""

import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from nest.errors import UserError

TARS = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}
MD5 = {
    "train": "1d675b47d978889d74fa0da5fadfb00e",
    "validation": "29b22e2961454d5413ddabcf34fc5622",
}
NUM_IMAGES = {"train": 1_281_167, "validation": 50_000}


class Entry(NamedTuple):
    """An image in a tar: where its bytes begin, and its class as a WordNet id."""

    file_name: str
    label: str
    offset: int
    size: int


def list_images(tar: Path, split: str, expected: int | None) -> list[Entry]:
    """List the images of a tar in its order, reading nothing but the tar's headers.

    Args:
      tar: for "train" a tar of nXXXXXXXX.tar, one per class; for "validation" of
        ILSVRC2012_val_XXXXXXXX.JPEG.
      split: "train" or "validation".
      expected: how many there have to be; None: at least one.

    Raises:
      UserError: the tar is missing, damaged, another one or has another count.
    """
    find = _train_images if split == "train" else _validation_images
    try:
        with tarfile.open(tar, "r:") as opened:
            found = tqdm(
                find(opened),
                f"listing {split}",
                expected,
                unit=" images",
                disable=None,
            )
            entries = list(found)
    except FileNotFoundError as error:
        raise UserError(
            f"no file {tar}; download {TARS[split]} from "
            f"https://image-net.org/download-images (it asks for an account)"
        ) from error
    except tarfile.TarError as error:
        raise UserError(
            f"{tar} is damaged or no tar ({error}); {_mend(tar, split)}"
        ) from error
    except OSError as error:
        raise UserError(f"{tar} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{tar} {error}; is it {TARS[split]}?") from error
    if not entries:
        raise UserError(f"{tar} holds no image; is it {TARS[split]}?")
    if expected is not None and len(entries) != expected:
        raise UserError(
            f"{tar} holds {len(entries):,} images instead of {expected:,}; "
            f"{_mend(tar, split)}"
        )
    return entries


def read_image(tar: BinaryIO, split: str, entry: Entry) -> bytes:
    """Read an image and check it, see `to_jpeg`; may be called in many threads.

    Raises:
      UserError: there is no whole image at that place.
    """
    try:
        return to_jpeg(os.pread(tar.fileno(), entry.size, entry.offset))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        inner = f"{entry.label}.tar/" if split == "train" else ""
        raise UserError(
            f"{inner}{entry.file_name} in {tar.name} cannot be read as an image; "
            f"{_mend(tar.name, split)}"
        ) from error


def to_jpeg(image: bytes) -> bytes:
    """Check that an image file is whole, and return it as a grey or RGB JPEG.

    Nearly all images come back byte for byte. ILSVRC-2012 has one PNG and 22 CMYK
    JPEGs; like TFDS this makes RGB JPEGs of quality 100 of them. The check decodes to
    the last row, at an eighth of the size: Pillow's verify() does not see that the end
    of a JPEG is missing.

    Raises:
      OSError, SyntaxError, ValueError or Image.DecompressionBombError: no whole image.
    """
    with Image.open(io.BytesIO(image), formats=("JPEG", "PNG")) as opened:
        # Pillow names a JPEG with a second picture behind it MPO.
        if opened.format in ("JPEG", "MPO") and opened.mode in ("L", "RGB"):
            opened.draft("L", (1, 1))
            opened.load()
            return image
        jpeg = io.BytesIO()
        opened.convert("RGB").save(jpeg, "JPEG", quality=100)
        return jpeg.getvalue()


def _train_images(tar: tarfile.TarFile) -> Iterator[Entry]:
    """Raises ValueError where a member is not what the training tar holds."""
    classes = set(_lines("labels.txt"))
    for member in _members(tar):
        label = member.name.removesuffix(".tar")
        if label == member.name or label not in classes:
            raise ValueError(
                f"holds {member.name!r} instead of a tar named after its class, like "
                f"n01440764.tar"
            )
        with tarfile.open(fileobj=tar.extractfile(member), mode="r:") as images:
            for image in _members(images):
                if not re.fullmatch(r"[^/]+\.JPEG", image.name):
                    raise ValueError(
                        f"holds {image.name!r} in {member.name} instead of an image "
                        f"like n01440764_18.JPEG"
                    )
                offset = member.offset_data + image.offset_data
                yield Entry(image.name, label, offset, image.size)


def _validation_images(tar: tarfile.TarFile) -> Iterator[Entry]:
    """Raises ValueError where a member is not what the validation tar holds."""
    labels = _lines("validation_labels.txt")  # In the order of the names.
    for member in _members(tar):
        match = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.JPEG", member.name)
        if not match or not 1 <= int(match[1]) <= len(labels):
            raise ValueError(
                f"holds {member.name!r} instead of an image like "
                f"ILSVRC2012_val_00000001.JPEG"
            )
        label = labels[int(match[1]) - 1]
        yield Entry(member.name, label, member.offset_data, member.size)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members; raise tarfile.ReadError if the end of the tar is missing."""
    while (member := tar.next()) is not None:
        yield member
        tar.members.clear()  # A million of them would fill a gigabyte.
    tar.fileobj.seek(tar.offset)
    end = tar.fileobj.read(tarfile.BLOCKSIZE)
    if len(end) < tarfile.BLOCKSIZE or any(end):
        raise tarfile.ReadError(f"its end is missing after byte {tar.offset:,}")


def _lines(name: str) -> list[str]:
    """Read one of the lists that TFDS ships for this dataset."""
    return (
        Path(tfds.core.tfds_path(f"datasets/imagenet2012/{name}")).read_text().split()
    )


def _mend(tar: Path | str, split: str) -> str:
    return f"`md5sum {tar}` prints {MD5[split]} for a whole one; download it again"
