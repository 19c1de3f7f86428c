"""nest.data.images."""

import io

import numpy as np
import pytest
from PIL import Image

from nest.data.images import center_crop, decode, random_resized_crop


def noise(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_decode_returns_rgb():
    image = noise(5, 7)
    np.testing.assert_array_equal(decode(encoded(image)), image)
    assert decode(encoded(image.convert("L"))).mode == "RGB"


@pytest.mark.parametrize("cut", [0, 40])
def test_decode_refuses_what_is_not_an_image(cut: int):
    with pytest.raises(OSError):
        decode(encoded(noise(50, 50))[:cut])


def test_center_crop_of_the_whole_is_the_image():
    image = noise(8, 8)
    np.testing.assert_array_equal(center_crop(image, 8, fraction=1.0), image)


def test_center_crop_takes_the_centre():
    image = noise(64, 96)
    crop = center_crop(image, 32, fraction=0.5)
    np.testing.assert_array_equal(crop, np.asarray(image)[16:48, 32:64])


def test_random_resized_crop_has_the_given_areas_and_aspects():
    """Read each box back from a picture whose pixels hold their coordinates."""
    rows, columns = np.indices((200, 240))
    plane = np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)
    image, rng = Image.fromarray(plane), np.random.default_rng(0)
    areas, aspects = [], []
    for _ in range(300):
        crop = random_resized_crop(
            image, 48, rng, area=(0.2, 0.6), aspect=(0.75, 4 / 3)
        )
        assert crop.shape == (48, 48, 3)
        # 48 pixels span 48 / 47 of the distance between the outer two.
        height, width = (np.ptp(crop[..., i].astype(float)) * 48 / 47 for i in (0, 1))
        areas.append(height * width / (200 * 240))
        aspects.append(width / height)
    # Coordinates are rounded to whole pixels: 2 in 80.
    assert 0.2 * 0.95 < min(areas) < 0.25 and 0.55 < max(areas) < 0.6 * 1.05
    assert 0.75 * 0.95 < min(aspects) < 0.8 and 1.25 < max(aspects) < 4 / 3 * 1.05
    assert np.mean(areas) == pytest.approx(0.4, abs=0.03)


def test_random_resized_crop_falls_back_to_the_centre():
    image = noise(8, 200)
    crop = random_resized_crop(
        image, 8, np.random.default_rng(0), area=(0.9, 1.0), aspect=(1.0, 1.0)
    )
    np.testing.assert_array_equal(crop, np.asarray(image)[:, 96:104])
