"""nest.data.reader."""

import io

import numpy as np
import pytest
from PIL import Image

from nest.data.images import Picture
from nest.data.reader import Reader
from nest.data.sources import Source
from nest.errors import UserError


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value,) * 3).save(file, "PNG")
    return file.getvalue()


def source(broken: tuple[int, ...] = (), label: int = 0) -> Source:
    files = [b"" if i in broken else png(i) for i in range(5)]
    return Source(lambda i: (files[i], label), 5, ("a", "b"), lambda i: f"file {i}")


def whole(picture: Picture) -> np.ndarray:
    return picture.decode(1)


def test_an_example_is_image_and_label():
    image, label = Reader(source(label=1), skip_corrupt=False).read(3, whole)
    assert (image == 3).all() and image.shape == (4, 4, 3) and label == 1


def test_a_broken_image_is_named_with_the_mend():
    reader = Reader(source(broken=(2,)), skip_corrupt=False)
    with pytest.raises(UserError) as error:
        reader.read(2, whole)
    assert str(error.value) == (
        "file 2 is not a readable image (no bytes); replace it, or set "
        "--config.data.skip_corrupt=True"
    )
    assert reader.report() is None


def test_broken_images_are_left_out_counted_and_replaced():
    reader = Reader(source(broken=(2, 3, 4)), skip_corrupt=True)
    assert reader.read(2, whole) is None
    assert reader.report() == (
        "1 of 5 images were unreadable and left out: file 2 (no bytes)"
    )
    image, _ = reader.read_or_next(2, whole)
    assert (image == 0).all()  # the next readable one, around the end
    assert reader.report().startswith("3 of 5 images")


def test_nothing_readable_is_an_error():
    reader = Reader(source(broken=tuple(range(5))), skip_corrupt=True)
    with pytest.raises(UserError, match="not a single image"):
        reader.read_or_next(0, whole)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_outside_the_classes_is_named(label: int):
    reader = Reader(source(label=label), skip_corrupt=True)
    with pytest.raises(
        UserError, match=f"file 0 has the label {label}, but there are 2"
    ):
        reader.read(0, whole)


def test_a_file_that_cannot_be_opened_is_left_out_too():
    def read(i: int) -> tuple[bytes, int]:
        if i == 1:
            raise FileNotFoundError(2, "No such file or directory")
        return png(i), 0

    files = Source(read, 3, ("a",), lambda i: f"file {i}")
    with pytest.raises(UserError, match=r"file 1 .* \(No such file or directory\)"):
        Reader(files, skip_corrupt=False).read(1, whole)
    reader = Reader(files, skip_corrupt=True)
    assert reader.read(1, whole) is None and reader.skipped
