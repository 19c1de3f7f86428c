"""From the bytes of an image file to a uint8 array of the model's size.

Resizing is bilinear between pixel centres and does not average when it shrinks, as in
the released code. An image more than twice too large is first shrunk by 2, 4 or 8: a
JPEG while it is decoded (its cosine transform is evaluated at fewer points), which is
the faster the smaller, any other by averaging.
"""

import dataclasses
import io
import math
import struct
from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

SHRINKS = (8, 4, 2, 1)
LONGEST = 4  # long side / short side, of what is resized around a centre crop

# What Pillow raises for damaged files besides OSError.
DAMAGE = (
    Image.DecompressionBombError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image of known size that is decoded when it is needed.

    Attributes:
      height, width: in pixels, upright.
      decode: shrink, one of `SHRINKS` -> RGB, uint8 (height / shrink, width / shrink,
        3), sides rounded up; raises OSError where the contents are damaged.
    """

    height: int
    width: int
    decode: Callable[[int], np.ndarray]


def open_picture(image: bytes | np.ndarray) -> Picture:
    """Read the size of an image file of any format that Pillow knows.

    Grey becomes RGB, CMYK and palettes are converted, 16 bits scaled to 8, transparent
    parts laid over white, and pictures with an EXIF orientation turned upright.

    Args:
      image: file contents, or an RGB array, uint8 (H, W, 3).

    Raises:
      OSError: not an image, or damaged.
    """
    if isinstance(image, bytes):
        if simplejpeg.is_jpeg(image) and not _is_turned(image):
            picture = _open_jpeg(image)
            if picture is not None:
                return picture
        image = _decode_by_pillow(image)
    height, width = image.shape[:2]
    return Picture(height, width, lambda shrink: _average(image, shrink))


def random_resized_crop(
    picture: Picture,
    size: int,
    rng: np.random.Generator,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> np.ndarray:
    """Crop a random box and resize it (Inception crop), the ImageNet training input.

    Args:
      size: side of the result in pixels.
      area: smallest and largest share of the image's area, in (0, 1].
      aspect: smallest and largest width / height; drawn log-uniformly.

    Returns:
      uint8 (size, size, 3). After ten boxes that do not fit, the centre square.
    """
    height, width = picture.height, picture.width
    for _ in range(10):
        box_area = rng.uniform(*area) * width * height
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        box_width = round(math.sqrt(box_area * ratio))
        box_height = round(math.sqrt(box_area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(rng.integers(width - box_width + 1))
            top = int(rng.integers(height - box_height + 1))
            return _cut(picture, left, top, box_width, box_height, size)
    side = min(width, height)
    return _cut(picture, (width - side) // 2, (height - side) // 2, side, side, size)


def center_crop(picture: Picture, size: int, *, fraction: float) -> np.ndarray:
    """Resize the short side to size / fraction and cut the centre: for evaluation.

    Args:
      size: side of the result in pixels.
      fraction: in (0, 1]; 224 / 256 is the published short side of 256, centre 224.

    Returns:
      uint8 (size, size, 3).
    """
    short = min(picture.height, picture.width)
    scale = round(size / fraction) / short
    height, width = (
        max(size, round(side * scale)) for side in (picture.height, picture.width)
    )
    pixels = picture.decode(_shrink(short, round(size / fraction)))
    if max(height, width) > LONGEST * min(height, width):
        pixels = _shorten(pixels)
        scale = min(height, width) / min(pixels.shape[:2])
        height, width = (max(size, round(side * scale)) for side in pixels.shape[:2])
    pixels = _resize(pixels, height, width)
    top, left = (height - size) // 2, (width - size) // 2
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])


def _shorten(pixels: np.ndarray) -> np.ndarray:
    """Cut the ends off a strip, of which only the middle is needed."""
    longest = LONGEST * min(pixels.shape[:2])
    top, left = (max(0, side - longest) // 2 for side in pixels.shape[:2])
    return pixels[top : top + longest, left : left + longest]


def _cut(
    picture: Picture, left: int, top: int, width: int, height: int, size: int
) -> np.ndarray:
    shrink = _shrink(min(width, height), size)
    pixels = picture.decode(shrink)
    x, y = left // shrink, top // shrink
    width, height = (max(1, side // shrink) for side in (width, height))
    return _resize(pixels[y : y + height, x : x + width], size, size)


def _shrink(side: int, target: int) -> int:
    """The most to shrink by before `side` falls below `target`."""
    return next((s for s in SHRINKS if side >= s * target), 1)


def _resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    if pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels)
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)


def _average(pixels: np.ndarray, shrink: int) -> np.ndarray:
    if shrink == 1:
        return pixels
    height, width = (-(-side // shrink) for side in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _open_jpeg(data: bytes) -> Picture | None:
    """None leaves the file to Pillow: CMYK, and what libjpeg-turbo complains about."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if height * width > 2 * Image.MAX_IMAGE_PIXELS:  # Pillow's own limit
        raise OSError(f"{width} x {height} pixels are too many")
    if colours not in ("YCbCr", "Gray", "RGB"):
        return None

    def decode(shrink: int) -> np.ndarray:
        try:
            return simplejpeg.decode_jpeg(
                data,
                "RGB",
                fastdct=True,
                fastupsample=True,
                min_height=-(-height // shrink),
                min_width=-(-width // shrink),
                min_factor=shrink,
            )
        except ValueError:  # A mere warning, too, such as stray bytes before a marker.
            return _average(_decode_by_pillow(data), shrink)

    return Picture(height, width, decode)


def _is_turned(data: bytes) -> bool:
    """Whether a JPEG's EXIF data asks for another orientation."""
    if data.find(b"Exif\0\0", 0, 1 << 16) < 0:
        return False
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.getexif().get(0x0112, 1) != 1
    except (OSError, *DAMAGE):
        return False  # Damaged; whoever decodes it says so.


def _decode_by_pillow(data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # 16-bit grey
                grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
                image = Image.fromarray(((grey * 255 + 32767) // 65535).astype("uint8"))
            elif image.mode == "F":
                image = Image.fromarray(
                    np.clip(np.asarray(image), 0, 255).astype("uint8")
                )
            if image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise OSError("not an image") from error
    except DAMAGE as error:
        raise OSError(str(error)) from error
