"""nest.data.ilsvrc, on small tars made like those of ILSVRC-2012."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from nest.data.ilsvrc import list_images, read_image, to_jpeg
from nest.errors import UserError

CLASSES = ("n01440764", "n02105855", "n15075141")
# Of the first three validation images in order of name, known from the dataset.
VALIDATION_CLASSES = ("n01751748", "n09193705", "n02105855")


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (40, 24)):
    """Smooth colours, so that JPEG changes them little."""
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)
    return (
        Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR).convert(mode)
    )


def encoded(image: Image.Image, file_format: str = "JPEG") -> bytes:
    file = io.BytesIO()
    image.save(file, file_format)
    return file.getvalue()


def tar_of(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def train_files(images_per_class: int = 5) -> dict[str, dict[str, bytes]]:
    return {
        wnid: {
            f"{wnid}_{i}.JPEG": encoded(picture(100 * c + i))
            for i in range(images_per_class)
        }
        for c, wnid in enumerate(CLASSES)
    }


def validation_files() -> dict[str, bytes]:
    """In another order than that of the names, as the real tar has them."""
    return {
        f"ILSVRC2012_val_{i:08}.JPEG": encoded(picture(1000 + i)) for i in (3, 1, 2)
    }


def write_train_tar(path: Path, files: dict[str, dict[str, bytes]]) -> Path:
    path.write_bytes(tar_of({f"{wnid}.tar": tar_of(files[wnid]) for wnid in files}))
    return path


def write_validation_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.write_bytes(tar_of(files))
    return path


def test_a_training_image_lies_where_it_is_listed(tmp_path: Path):
    files = train_files()
    tar = write_train_tar(tmp_path / "train.tar", files)
    entries = list_images(tar, "train", 15)
    content = tar.read_bytes()
    listed = [
        (e.label, e.file_name, content[e.offset : e.offset + e.size]) for e in entries
    ]
    assert listed == [
        (wnid, name, image) for wnid in files for name, image in files[wnid].items()
    ]


def test_validation_labels_go_by_the_name(tmp_path: Path):
    files = validation_files()
    tar = write_validation_tar(tmp_path / "val.tar", files)
    entries = list_images(tar, "validation", None)
    assert [e.file_name for e in entries] == list(files)
    assert [e.label for e in entries] == [VALIDATION_CLASSES[i - 1] for i in (3, 1, 2)]
    with tar.open("rb") as file:
        assert [read_image(file, "validation", e) for e in entries] == list(
            files.values()
        )


def test_the_validation_labels_cover_the_whole_split(tmp_path: Path):
    tar = write_validation_tar(
        tmp_path / "val.tar",
        {f"ILSVRC2012_val_{i:08}.JPEG": b"" for i in range(1, 50_001)},
    )
    labels = [entry.label for entry in list_images(tar, "validation", 50_000)]
    assert set(np.unique(labels, return_counts=True)[1]) == {50}
    names = tfds.builder("imagenet2012").info.features["label"].names
    assert set(labels) == set(names)


@pytest.mark.parametrize(
    ("split", "files", "message"),
    [
        ("train", {"ILSVRC2012_val_00000001.JPEG": b""}, "is it ILSVRC2012_img_train"),
        ("train", {"n00000000.tar": tar_of({})}, "holds 'n00000000.tar' instead of"),
        ("train", {"n01440764.tar": tar_of({"a.txt": b""})}, "'a.txt' in n01440764.t"),
        ("train", {"n01440764.tar": b"no tar" * 200}, "is damaged or no tar"),
        ("train", {"n01440764.tar": tar_of({})}, "holds no image"),
        ("validation", {"n01440764.tar": tar_of({})}, "is it ILSVRC2012_img_val.tar?"),
        ("validation", {"ILSVRC2012_val_00050001.JPEG": b""}, "holds 'ILSVRC2012_val"),
        ("validation", {}, "holds no image; is it ILSVRC2012_img_val.tar?"),
    ],
)
def test_another_tar_is_refused(split, files, message, tmp_path: Path):
    tar = tmp_path / "some.tar"
    tar.write_bytes(tar_of(files))
    with pytest.raises(UserError) as error:
        list_images(tar, split, None)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(tar) in str(error.value)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"no file .*none\.tar; download ILS"):
        list_images(tmp_path / "none.tar", "validation", None)
    with pytest.raises(UserError, match=r"read \(Is a directory"):
        list_images(tmp_path, "train", None)
    (tmp_path / "text").write_text("not a tar" * 1000)
    with pytest.raises(UserError, match="text is damaged or no tar"):
        list_images(tmp_path / "text", "train", None)


def test_a_wrong_count_is_refused_with_the_numbers(tmp_path: Path):
    tar = write_train_tar(tmp_path / "train.tar", train_files())
    with pytest.raises(UserError, match="15 images instead of 1,281,167; `md5sum "):
        list_images(tar, "train", 1_281_167)


def test_a_tar_cut_anywhere_is_damaged(tmp_path: Path):
    files = validation_files()
    whole = tar_of(files)
    end = sum(512 + -(-len(content) // 512) * 512 for content in files.values())
    tar = tmp_path / "val.tar"
    for length in (0, 100, 512, 700, end // 2, end - 512, end - 1, end, end + 511):
        tar.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"val\.tar is damaged or no tar"):
            list_images(tar, "validation", None)
    tar.write_bytes(whole[: end + 512])
    assert len(list_images(tar, "validation", 3)) == 3


def test_a_header_overwritten_in_the_middle_is_damage(tmp_path: Path):
    content = bytearray(tar_of(validation_files()))
    second = content.index(b"ILSVRC2012_val_00000001")
    content[second : second + 512] = b"\xff" * 512
    (tmp_path / "val.tar").write_bytes(content)
    with pytest.raises(UserError, match="its end is missing after byte"):
        list_images(tmp_path / "val.tar", "validation", None)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_stays_byte_for_byte(mode):
    image = encoded(picture(1, mode))
    assert to_jpeg(image) == image


@pytest.mark.parametrize(
    ("mode", "file_format"), [("CMYK", "JPEG"), ("RGB", "PNG"), ("RGBA", "PNG")]
)
def test_cmyk_and_png_become_rgb_jpegs(mode, file_format):
    image = picture(2, mode, size=(64, 48))
    with Image.open(io.BytesIO(to_jpeg(encoded(image, file_format)))) as jpeg:
        assert (jpeg.format, jpeg.mode, jpeg.size) == ("JPEG", "RGB", (64, 48))
        difference = np.asarray(jpeg, int) - np.asarray(image.convert("RGB"), int)
    # Two levels for the JPEG before, one for the JPEG after.
    assert np.abs(difference).mean() < 3


def test_a_cut_image_is_named(tmp_path: Path):
    files = train_files()
    name = f"{CLASSES[1]}_2.JPEG"
    for damaged in (files[CLASSES[1]][name][:-2], b"no image", b""):
        files[CLASSES[1]][name] = damaged
        tar = write_train_tar(tmp_path / "train.tar", files)
        entry = list_images(tar, "train", 15)[7]
        with (
            tar.open("rb") as file,
            pytest.raises(UserError, match=f"{CLASSES[1]}.tar/{name} in .*train.tar c"),
        ):
            read_image(file, "train", entry)
