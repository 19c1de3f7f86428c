"""The explanation of an image as one picture, in the manner of the paper's figure."""

from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PANEL, GAP, HEADER = 176, 14, 34  # pixels
CHOSEN, LINK = (255, 210, 0), (255, 160, 0)


def draw(pixels: np.ndarray, explained: dict[str, Any]) -> Image.Image:
    """Draw a row per class: the image, the tree of blocks, the heat maps.

    Args:
      pixels: uint8 (S, S, 3).
      explained: of `nest.explain.report.explain_images`.
    """
    classes = explained["classes"]
    columns = 1 + len(classes[0]["levels"]) + len(classes[0]["heat_maps"])
    size = (columns * (PANEL + GAP) + GAP, len(classes) * (PANEL + HEADER + GAP))
    sheet = Image.new("RGB", size, "white")
    for row, each in enumerate(classes):
        _draw_class(sheet, row * (PANEL + HEADER + GAP), pixels, each)
    return sheet


def _draw_class(
    sheet: Image.Image, top: int, pixels: np.ndarray, each: dict[str, Any]
) -> None:
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    y = top + HEADER
    path = each["path"]
    panels = [outlined(pixels, [block["box"] for block in path])]
    captions = [f"{each['name']}: {each['probability']:.1%}"]
    for level, block in zip(each["levels"], path, strict=True):
        panels.append(tinted(pixels, np.array(level["values"]), block))
        captions.append(f"level {level['level']}: {block['value']:+.2g}")
    for name, values in each["heat_maps"].items():
        panels.append(heated(pixels, np.array(values)))
        captions.append(name.replace("_", " "))
    for i, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        x = GAP + i * (PANEL + GAP)
        sheet.paste(panel, (x, y))
        pen.text((x, y - 18), caption, fill="black", font=font)
    scale = PANEL / pixels.shape[0]
    for i, (parent, child) in enumerate(pairwise(path), start=1):
        x = GAP + i * (PANEL + GAP)
        start, end = link(parent["box"], child["box"], scale)
        line = (x + start[0], y + start[1], x + PANEL + GAP + end[0], y + end[1])
        pen.line(line, fill=LINK, width=2)


def outlined(pixels: np.ndarray, boxes: list) -> Image.Image:
    """Return the image with boxes around the blocks of a path, in panel size."""
    panel = enlarged(pixels)
    pen = ImageDraw.Draw(panel)
    scale = PANEL / pixels.shape[0]
    for k, box in enumerate(boxes):
        left, top, right, bottom = (round(scale * edge) for edge in box)
        inset = 2 * (len(boxes) - 1 - k) if k else 0
        corners = (left + inset, top + inset, right - 1 - inset, bottom - 1 - inset)
        pen.rectangle(corners, outline=CHOSEN, width=1 + 2 * (k == len(boxes) - 1))
    return panel


def tinted(pixels: np.ndarray, values: np.ndarray, chosen: dict) -> Image.Image:
    """Return the image with each block of a level in the colour of its value.

    Args:
      values: (side, side), signed.
      chosen: the block of the path, with its row and column.
    """
    side = len(values)
    tint = np.array([[colour(x) for x in row] for row in scaled(values)], np.uint8)
    large = Image.fromarray(tint).resize((PANEL, PANEL), Image.Resampling.NEAREST)
    panel = Image.blend(enlarged(pixels), large, 0.6)
    pen = ImageDraw.Draw(panel)
    font = ImageFont.load_default(size=11)
    step = PANEL / side
    for k in range(1, side):
        pen.line((k * step, 0, k * step, PANEL), fill="white")
        pen.line((0, k * step, PANEL, k * step), fill="white")
    if side <= 4:
        for (row, column), value in np.ndenumerate(values):
            at = ((column + 0.5) * step, (row + 0.5) * step)
            text = f"{value:+.1g}" if side == 4 else f"{value:+.2g}"
            pen.text(at, text, "black", font, "mm", stroke_width=2, stroke_fill="white")
    row, column = chosen["row"], chosen["column"]
    corners = [round(step * x) for x in (column, row, column + 1, row + 1)]
    pen.rectangle((*corners[:2], corners[2] - 1, corners[3] - 1), None, CHOSEN, 3)
    return panel


def heated(pixels: np.ndarray, values: np.ndarray) -> Image.Image:
    """Return the image under a heat map (H, W), signed: red for, blue against."""
    tint = Image.fromarray(scaled(values).astype(np.float32))
    tint = np.asarray(tint.resize((PANEL, PANEL), Image.Resampling.BILINEAR))
    low, middle, high = (np.array(colour(x)) for x in (-1, 0, 1))
    share = np.abs(tint)[..., None]
    tint = (1 - share) * middle + share * np.where(tint[..., None] > 0, high, low)
    return Image.blend(enlarged(pixels), Image.fromarray(tint.astype(np.uint8)), 0.6)


def enlarged(pixels: np.ndarray) -> Image.Image:
    """Return the image in panel size; a small one keeps its pixels' edges."""
    small = pixels.shape[0] < PANEL
    how = Image.Resampling.NEAREST if small else Image.Resampling.BILINEAR
    return Image.fromarray(pixels).resize((PANEL, PANEL), how)


def scaled(values: np.ndarray) -> np.ndarray:
    """Divide by the largest magnitude; zeros stay zeros."""
    return values / (np.abs(values).max() or 1)


def colour(value: float) -> tuple[int, int, int]:
    """Return the colour of a value of [-1, 1]: blue, white at 0, red."""
    end = (214, 39, 40) if value > 0 else (31, 119, 180)
    share = min(abs(value), 1)
    return tuple(round(255 + share * (part - 255)) for part in end)


def link(
    parent: tuple, child: tuple, scale: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ends of the line from a block to its child in the next panel.

    Args:
      parent, child: boxes in pixels of the image.
      scale: panel pixels per pixel of the image.

    Returns:
      x and y in the parent's panel and in the child's: the middles of the right and
      the left side.
    """
    start = scale * parent[2], scale * (parent[1] + parent[3]) / 2
    return start, (scale * child[0], scale * (child[1] + child[3]) / 2)
