"""A plot of figures in rows, drawn with Pillow: no plotting library is needed."""

import dataclasses
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

SIZE = 15  # of the letters, pixels
LINE = 34  # from one row to the next
AXIS = 520  # length of the axis
MARGIN = 24
INK, GREY, OURS, PAPER = "#222222", "#cccccc", "#1f5fbf", "#c0392b"


@dataclasses.dataclass(frozen=True)
class Bar:
    """One row: what is known of it.

    Attributes:
      label: in front of it.
      values: ours, one per seed.
      paper: the paper's.
    """

    label: str
    values: Sequence[float] = ()
    paper: float | None = None


def draw(title: str, axis: str, bars: Sequence[Bar]) -> Image.Image:
    """Draw one line per bar: dots for values, a stroke for their mean, a diamond for
    the paper's. Values that are not finite have no place and are left out."""
    bars = [
        dataclasses.replace(bar, values=[x for x in bar.values if math.isfinite(x)])
        for bar in bars
    ]
    font = ImageFont.load_default(SIZE)
    left = MARGIN + max(math.ceil(font.getlength(bar.label)) for bar in bars) + 16
    top = MARGIN + 3 * LINE // 2
    bottom = top + LINE * len(bars)
    width = max(left + AXIS, MARGIN + math.ceil(font.getlength(title))) + MARGIN
    image = Image.new("RGB", (width, bottom + 2 * LINE + MARGIN), "white")
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, MARGIN), title, INK, font)
    low, high, step = ticks([x for bar in bars for x in _all(bar)])

    def place(value: float) -> float:
        return left + AXIS * (value - low) / (high - low)

    for k in range(round((high - low) / step) + 1):
        value = low + k * step
        pen.line([(place(value), top), (place(value), bottom)], GREY)
        pen.text((place(value), bottom + 4), f"{value:g}", INK, font, anchor="ma")
    for k, bar in enumerate(bars):
        y = top + LINE * k + LINE // 2
        pen.text((left - 12, y), bar.label, INK, font, anchor="rm")
        if bar.values:
            mean = place(sum(bar.values) / len(bar.values))
            pen.line([(mean, y - 11), (mean, y + 11)], OURS, 3)
        for value in bar.values:
            x = place(value)
            pen.ellipse([x - 4, y - 4, x + 4, y + 4], outline=OURS, width=2)
        if bar.paper is not None:
            _diamond(pen, place(bar.paper), y)
    y = bottom + LINE + SIZE
    pen.text((left, y), axis, INK, font, anchor="lm")
    x = left + font.getlength(axis) + 32
    pen.ellipse([x - 4, y - 4, x + 4, y + 4], outline=OURS, width=2)
    pen.text((x + 10, y), "ours", INK, font, anchor="lm")
    if any(bar.paper is not None for bar in bars):
        _diamond(pen, x + 72, y)
        pen.text((x + 84, y), "paper", INK, font, anchor="lm")
    return image


def ticks(values: Sequence[float]) -> tuple[float, float, float]:
    """Return round ends of an axis that holds the values, and the step between marks.

    The step is 1, 2 or 5 times a power of ten; at most 8 steps cover the axis.
    """
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    span = (high - low) or abs(high) or 1.0
    exponent = math.floor(math.log10(span)) - 1
    steps = (m * 10.0 ** (exponent + e) for e in range(4) for m in (1, 2, 5))
    step = next(step for step in steps if span / step <= 6)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return (low, high, step) if high > low else (low, low + step, step)


def _all(bar: Bar) -> list[float]:
    return [*bar.values, *([] if bar.paper is None else [bar.paper])]


def _diamond(pen: ImageDraw.ImageDraw, x: float, y: float) -> None:
    pen.polygon([(x - 7, y), (x, y - 7), (x + 7, y), (x, y + 7)], outline=PAPER)
