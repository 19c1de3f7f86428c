"""nest.data.sources.clutter."""

import numpy as np
import pytest

from nest.data.sources import open_source
from nest.data.sources.clutter import enlarge
from nest.data.sources.digits import open_digits
from nest.errors import UserError


def opened(dataset: str, split: str):
    return open_source("clutter", dataset=dataset, data_dir="", split=split)


def test_canvases_are_fixed_and_differ_between_copies_and_splits():
    train, test = opened("32x3", "train"), opened("32x3", "test")
    assert (train.num_examples, test.num_examples) == (3 * 1437, 360)
    for i in (0, 500):
        np.testing.assert_array_equal(train.read(i)[0], train.read(i)[0])
        assert train.boxes(i) == train.boxes(i)
    assert (train.read(1)[0] != train.read(1 + 1437)[0]).any()
    assert train.read(1)[1] == train.read(1 + 1437)[1]
    assert train.read(0)[0].shape == (32, 32, 3)


def test_the_box_holds_the_digit_and_no_clutter():
    source, digits = opened("32x1", "test"), open_digits("test")
    for i in range(20):
        image, label = source.read(i)
        assert label == digits.read(i)[1]
        ((left, top, right, bottom),) = source.boxes(i)
        assert 0 <= left < right <= 32 and 0 <= top < bottom <= 32
        inside = image[top:bottom, left:right, 0]
        for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
            assert edge.max() > 64  # the box is tight
        fits = []
        for side in range(12, 21):
            digit = enlarge(digits.read(i)[0][..., 0], side)
            rows, columns = (np.flatnonzero((digit > 64).any(x)) for x in (1, 0))
            digit = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            fits.append(digit.shape == inside.shape and (digit == inside).all())
        assert any(fits)


@pytest.mark.parametrize("dataset", ["", "32", "8x1", "32x0"])
def test_another_name_is_one_line(dataset):
    with pytest.raises(UserError, match="for example 32x4"):
        opened(dataset, "train")
