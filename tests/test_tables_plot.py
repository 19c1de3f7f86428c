"""nest.tables.plot: the axis, and that marks are where they belong."""

import numpy as np
import pytest
from PIL import ImageColor

from nest.tables import plot
from nest.tables.plot import Bar, draw, ticks


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 60.0], (0.0, 60.0, 10.0)),
        ([96.3, 97.2], (96.2, 97.2, 0.2)),
        ([5.0], (4.0, 6.0, 1.0)),
        ([], (0.0, 1.0, 0.2)),
    ],
)
def test_ticks_are_round(values: list[float], expected: tuple):
    low, high, step = ticks(values)
    assert low <= min(values, default=0) and high >= max(values, default=1)
    assert (high - low) / step <= 8
    if len(values) != 1:
        np.testing.assert_allclose((low, high, step), expected)


def columns(image: np.ndarray, colour: str, top: int, bottom: int) -> np.ndarray:
    same = (image[top:bottom] == ImageColor.getrgb(colour)).all(axis=-1)
    return np.flatnonzero(same.any(axis=0))


def test_marks_lie_where_their_values_do():
    bars = [Bar("low", [0.0], 60.0), Bar("high", [60.0]), Bar("not run")]
    image = np.asarray(draw("title", "%", bars))
    top = plot.MARGIN + 3 * plot.LINE // 2
    rows = [(top + k * plot.LINE, top + (k + 1) * plot.LINE) for k in range(3)]
    low, high = (columns(image, plot.OURS, *row).mean() for row in rows[:2])
    assert high - low == pytest.approx(plot.AXIS, abs=1.5)  # dots of 9 pixels
    paper = columns(image, plot.PAPER, *rows[0]).mean()
    assert paper == pytest.approx(high, abs=1.5)
    assert not len(columns(image, plot.OURS, *rows[2]))
