"""nest.data.images."""

import io

import cv2
import numpy as np
import pytest
from pictures import pictures
from PIL import Image, ImageOps

from nest.data.images import center_crop, open_picture, random_resized_crop


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def photograph(height: int = 60, width: int = 80) -> Image.Image:
    return Image.fromarray(pictures(height, width)[0])


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(data: bytes) -> np.ndarray:
    picture = open_picture(data)
    pixels = picture.decode(1)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (picture.height, picture.width, 3)
    return pixels


def test_lossless_formats_come_out_exactly():
    image = photograph()
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        np.testing.assert_array_equal(decoded(encoded(image, kind)), image)
    palette = image.quantize(16)
    np.testing.assert_array_equal(decoded(encoded(palette)), palette.convert("RGB"))
    np.testing.assert_array_equal(
        decoded(encoded(palette, "GIF")), palette.convert("RGB")
    )
    black_and_white = image.convert("1")
    np.testing.assert_array_equal(
        decoded(encoded(black_and_white)), black_and_white.convert("RGB")
    )


# The fast integer transform and plain chroma upsampling of libjpeg-turbo against
# Pillow's exact ones: a few levels on average.
JPEG_LEVELS = 4


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpegs(subsampling: int):
    for image in (photograph(), photograph(61, 83), photograph().convert("L")):
        data = encoded(image, "JPEG", quality=90, subsampling=subsampling)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float)
        assert np.abs(decoded(data) - expected).mean() < JPEG_LEVELS


def test_cmyk():
    image = photograph().convert("CMYK")
    data = encoded(image, "JPEG", quality=95)
    assert np.abs(decoded(data) - np.asarray(photograph(), float)).mean() < JPEG_LEVELS


def test_sixteen_bits_are_scaled_not_clipped():
    grey = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    expected = np.rint(grey / 257).astype(np.uint8)
    out = decoded(encoded(Image.fromarray(grey)))
    np.testing.assert_array_equal(out, np.repeat(expected[..., None], 3, axis=-1))


def test_transparency_lies_over_white():
    alpha = Image.fromarray(np.tile(np.uint8([0, 128, 255, 255]), (60, 20)))
    image = photograph()
    rgb = np.asarray(image, float)
    share = np.asarray(alpha, float)[..., None] / 255
    expected = share * rgb + (1 - share) * 255
    image.putalpha(alpha)
    assert np.abs(decoded(encoded(image)) - expected).max() <= 1
    grey = image.convert("LA")
    assert (decoded(encoded(grey))[:, 0] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("JPEG", "PNG"):
        data = encoded(photograph(), kind, exif=exif)
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        out = decoded(data)
        assert out.shape[:2] == ((60, 80) if orientation < 5 else (80, 60))
        assert np.abs(out - np.asarray(expected, float)).mean() < JPEG_LEVELS


@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_shrinking_while_decoding_is_close_to_averaging(shrink: int):
    image = photograph(96, 128)
    averaged = np.asarray(image.reduce(shrink), float)
    for data in (encoded(image, "JPEG", quality=95), encoded(image, "PNG")):
        out = open_picture(data).decode(shrink)
        assert out.shape == (96 // shrink, 128 // shrink, 3)
        assert np.abs(out - averaged).mean() < JPEG_LEVELS
    odd = open_picture(encoded(photograph(61, 83), "JPEG")).decode(shrink)
    assert odd.shape[:2] == (-(-61 // shrink), -(-83 // shrink))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.95])
def test_damaged_files_are_refused(kind: str, part: float):
    data = encoded(Image.fromarray(noise(60, 80)), kind)
    with pytest.raises(OSError):
        open_picture(data[: int(part * len(data))]).decode(1)


def test_a_harmless_jpeg_warning_is_not_damage():
    data = encoded(photograph(), "JPEG")
    at = data.index(b"\xff\xdb")  # the quantization tables
    stray = data[:at] + b"\x00\x00" + data[at:]
    assert np.abs(decoded(stray).astype(int) - decoded(data)).mean() < JPEG_LEVELS


def test_center_crop_of_the_whole_is_the_image():
    image = noise(8, 8)
    crop = center_crop(open_picture(image), 8, fraction=1.0)
    np.testing.assert_array_equal(crop, image)


def test_center_crop_resizes_the_short_side_then_cuts():
    image = noise(300, 400)
    crop = center_crop(open_picture(image), 224, fraction=224 / 256)
    resized = cv2.resize(image, (341, 256), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(crop, resized[16:240, 58:282])


def test_resizing_is_bilinear_between_pixel_centres():
    """Against the formula in numpy, along a row."""
    image = noise(10, 10)
    crop = center_crop(open_picture(image), 25, fraction=1.0).astype(float)
    at = (np.arange(25) + 0.5) * 10 / 25 - 0.5
    low = np.clip(np.floor(at), 0, 9).astype(int)
    high = np.clip(np.floor(at) + 1, 0, 9).astype(int)
    share = at - np.floor(at)

    def along(x: np.ndarray) -> np.ndarray:
        return x[low] * (1 - share)[:, None, None] + x[high] * share[:, None, None]

    expected = along(along(image.astype(float)).swapaxes(0, 1)).swapaxes(0, 1)
    assert np.abs(crop - expected).max() <= 1  # fixed point, rounded twice


def test_small_images_are_enlarged():
    crop = center_crop(open_picture(noise(5, 9)), 32, fraction=0.875)
    assert crop.shape == (32, 32, 3)


@pytest.mark.parametrize("shape", [(3, 3000), (3000, 3)])
def test_a_strip_is_not_enlarged_as_a_whole(shape: tuple[int, int]):
    picture = open_picture(
        np.ascontiguousarray(np.broadcast_to(7, (*shape, 3)), np.uint8)
    )
    crop = center_crop(picture, 224, fraction=1.0)
    assert crop.shape == (224, 224, 3) and (crop == 7).all()


def coordinates(height: int, width: int) -> np.ndarray:
    rows, columns = np.indices((height, width))
    return np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)


def test_random_resized_crop_has_the_given_areas_and_aspects():
    """Read each box back from a picture whose pixels hold their coordinates."""
    picture, rng = open_picture(coordinates(200, 240)), np.random.default_rng(0)
    areas, aspects = [], []
    for _ in range(300):
        crop = random_resized_crop(
            picture, 64, rng, area=(0.2, 0.6), aspect=(0.75, 4 / 3)
        )
        assert crop.shape == (64, 64, 3)
        # 64 pixels span 64 / 63 of the distance between the outer two.
        height, width = (np.ptp(crop[..., i].astype(float)) * 64 / 63 for i in (0, 1))
        areas.append(height * width / (200 * 240))
        aspects.append(width / height)
    # Coordinates are rounded to whole pixels, and a box to pairs of pixels where the
    # picture was shrunk first: 2 in 80.
    assert 0.2 * 0.95 < min(areas) < 0.25 and 0.55 < max(areas) < 0.6 * 1.05
    assert 0.75 * 0.95 < min(aspects) < 0.8 and 1.25 < max(aspects) < 4 / 3 * 1.05
    assert np.mean(areas) == pytest.approx(0.4, abs=0.03)


def test_random_resized_crop_falls_back_to_the_centre():
    image = noise(8, 200)
    crop = random_resized_crop(
        open_picture(image),
        8,
        np.random.default_rng(0),
        area=(0.9, 1.0),
        aspect=(1.0, 1.0),
    )
    np.testing.assert_array_equal(crop, image[:, 96:104])
