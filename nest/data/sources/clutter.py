"""Scanned digits at known boxes on a larger canvas of clutter, to test explanations.

Each canvas holds one whole digit of scikit-learn's; around it lie torn pieces of other
digits, which have the same strokes and mean nothing.
"""

import dataclasses
import re

import numpy as np
from PIL import Image

from nest.data.sources.digits import open_digits
from nest.data.sources.source import Source
from nest.errors import UserError

SIDES = (0.375, 0.625)  # of the digit / side of the canvas, drawn uniformly
PIECES = 14  # tried; those that would touch the digit's box are left out


def open_clutter(dataset: str, split: str) -> Source:
    """Open "train" or "test"; canvas i is a pure function of the split and i.

    Args:
      dataset: "SIZExCOPIES", for example "32x4": side of a canvas in pixels (at least
        16), and on how many canvases each training digit appears; a test digit appears
        on one.

    Raises:
      UserError: another name or split.
    """
    found = re.fullmatch(r"(\d+)x(\d+)", dataset)
    if not found or int(found[1]) < 16 or int(found[2]) < 1:
        raise UserError(
            f"config.data.dataset = {dataset!r}; a canvas of clutter is called "
            f"SIZExCOPIES, for example 32x4, with a SIZE of at least 16"
        )
    size, copies = int(found[1]), int(found[2])
    digits = open_digits(split)
    kind = ("train", "test").index(split)

    def draw(i: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
        rng = np.random.default_rng((kind, i))
        return draw_canvas(digits, i % digits.num_examples, size, rng)

    return dataclasses.replace(
        digits,
        read=lambda i: (draw(i)[0], digits.read(i % digits.num_examples)[1]),
        num_examples=digits.num_examples * (1 if kind else copies),
        describe=lambda i: f"canvas {i} of {split}",
        boxes=lambda i: (draw(i)[1],),
    )


def draw_canvas(
    digits: Source, i: int, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Place digit `i` at random amid pieces of others.

    Returns:
      uint8 (size, size, 3), and the box around the digit's ink: left, top, right,
      bottom in pixels, the last two exclusive.
    """
    side = int(rng.integers(round(SIDES[0] * size), round(SIDES[1] * size) + 1))
    digit = enlarge(digits.read(i)[0][..., 0], side)
    left, top = rng.integers(0, size - side + 1, 2)
    canvas = np.zeros((size, size), np.uint8)
    canvas[top : top + side, left : left + side] = digit
    rows, columns = (np.flatnonzero((digit > 64).any(axis)) for axis in (1, 0))
    box = (
        int(left + columns[0]),
        int(top + rows[0]),
        int(left + columns[-1] + 1),
        int(top + rows[-1] + 1),
    )
    part = size // 4
    for _ in range(PIECES):
        whole = digits.read(int(rng.integers(digits.num_examples)))[0][..., 0]
        y, x = rng.integers(0, 5, 2)
        piece = enlarge(np.rot90(whole[y : y + 4, x : x + 4], rng.integers(4)), part)
        y, x = rng.integers(0, size - part + 1, 2)
        if x >= box[2] or x + part <= box[0] or y >= box[3] or y + part <= box[1]:
            place = canvas[y : y + part, x : x + part]
            np.maximum(place, piece, out=place)
    return np.repeat(canvas[..., None], 3, axis=-1), box


def enlarge(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resize uint8 (H, W) to (side, side), bilinear."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
