"""nest.data.boxes."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from nest.data.boxes import crop_box, open_boxes, read_with_boxes
from nest.data.images import center_crop, open_picture
from nest.data.reader import Reader
from nest.data.sources import Source
from nest.errors import UserError

XML = """<annotation><filename>x</filename><object><bndbox>
<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>
</bndbox></object></annotation>"""


def source() -> Source:
    """Three black images of 60x40 with a white box at 30..50 across, 10..20 down."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:20, 30:50] = 255
    return Source(lambda i: (image, i), 3, tuple("abc"), lambda i: f"/val/pic_{i}.JPEG")


def archive(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for i in (0, 2):
            data = XML.format(30, 10, 49, 19).encode()
            member = tarfile.TarInfo(f"bbox/val/pic_{i}.xml")
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def test_an_archive_and_a_csv_say_the_same(tmp_path: Path):
    table = tmp_path / "boxes.csv"
    table.write_text(
        "name,left,top,right,bottom\npic_0.JPEG,30,10,50,20\npic_2,30,10,50,20\n"
    )
    for file in (table, archive(tmp_path / "boxes.tgz")):
        boxes = open_boxes(str(file), source())
        assert [boxes(i) for i in range(3)] == [
            ((30, 10, 50, 20),),
            (),
            ((30, 10, 50, 20),),
        ]


@pytest.mark.parametrize("fraction", [1.0, 0.8])
@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (50, 50), (33, 47)])
def test_a_box_follows_its_pixels_through_the_crop(shape, fraction):
    image = np.zeros((*shape, 3), np.uint8)
    box = (12, 9, 30, 25)
    image[box[1] : box[3], box[0] : box[2]] = 255
    crop = center_crop(open_picture(image), 80, fraction=fraction)[..., 0] > 127
    rows, columns = (np.flatnonzero(crop.any(axis)) for axis in (1, 0))
    seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    # Half a pixel of the original, bilinear, is up to two and a half of the crop.
    np.testing.assert_allclose(crop_box(box, *shape, 80, fraction), seen, atol=1.5)


def test_images_without_a_box_in_the_crop_are_left_out(tmp_path: Path):
    table = tmp_path / "boxes.csv"
    table.write_text(
        "name,left,top,right,bottom\npic_0,30,10,50,20\npic_1,0,0,9,40\npic_2,0,0,60,40\n"
    )
    reader = Reader(source(), skip_corrupt=False)
    boxes = open_boxes(str(table), reader.source)
    read = list(read_with_boxes(reader, boxes, size=20, crop_fraction=1.0))
    assert [label for _, label, _ in read] == [0, 2]
    np.testing.assert_array_equal(read[0][2], [(10, 5, 20, 10)])  # cut off at 50
    np.testing.assert_array_equal(read[1][2], [(0, 0, 20, 20)])


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("", "", "knows no boxes"),
        ("none.tgz", None, "no file"),
        ("bad.tgz", "text", "holds no boxes"),
        ("bad.csv", "name,x\npic_0,1\n", "holds no boxes"),
        (
            "other.csv",
            "name,left,top,right,bottom\nq,1,2,3,4\n",
            "of none in this split",
        ),
    ],
)
def test_what_is_wrong_is_one_line(name, contents, message, tmp_path: Path):
    file = tmp_path / name
    if contents:
        file.write_text(contents)
    with pytest.raises(UserError, match=message):
        open_boxes(str(file) if name else "", source())
