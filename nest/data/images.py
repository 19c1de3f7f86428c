"""From the bytes of an image file to a uint8 array of the model's size."""

import io
import math

import numpy as np
from PIL import Image


def decode(image: bytes | np.ndarray) -> Image.Image:
    """Decode an image file (or wrap a uint8 array) as RGB.

    Args:
      image: file contents, or (H, W, 3).

    Raises:
      OSError: the bytes are not an image (PIL.UnidentifiedImageError) or are cut off.
    """
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    return Image.open(io.BytesIO(image)).convert("RGB")


def random_resized_crop(
    image: Image.Image,
    size: int,
    rng: np.random.Generator,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> np.ndarray:
    """Crop a random box and resize it (Inception crop), the ImageNet training input.

    Args:
      image: RGB.
      size: side of the result in pixels.
      area: smallest and largest share of the image's area, in (0, 1].
      aspect: smallest and largest width / height; drawn log-uniformly.

    Returns:
      uint8 (size, size, 3). After ten boxes that do not fit, the centre square.
    """
    # Differs from the paper: Pillow's bilinear filter is widened when it shrinks
    # (antialiased); the released code samples four pixels whatever the scale.
    width, height = image.size
    for _ in range(10):
        box_area = rng.uniform(*area) * width * height
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        box_width = round(math.sqrt(box_area * ratio))
        box_height = round(math.sqrt(box_area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(rng.integers(width - box_width + 1))
            top = int(rng.integers(height - box_height + 1))
            box = (left, top, left + box_width, top + box_height)
            return _resize(image, size, box)
    return center_crop(image, size, fraction=1.0)


def center_crop(image: Image.Image, size: int, *, fraction: float) -> np.ndarray:
    """Resize the centre square, the evaluation input.

    Args:
      image: RGB.
      size: side of the result in pixels.
      fraction: side of the square over the short side of the image, in (0, 1];
        224 / 256 is the published short side of 256, centre 224.

    Returns:
      uint8 (size, size, 3).
    """
    width, height = image.size
    side = min(width, height) * fraction
    left, top = (width - side) / 2, (height - side) / 2
    return _resize(image, size, (left, top, left + side, top + side))


def _resize(
    image: Image.Image, size: int, box: tuple[float, float, float, float]
) -> np.ndarray:
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
