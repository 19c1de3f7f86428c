"""nest.data.sources."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from nest.data.sources import open_source
from nest.errors import UserError

DEFAULT_TFDS = Path.home() / "tensorflow_datasets"


def digits(split: str):
    return open_source("digits", dataset="digits", data_dir="", split=split)


def test_digits_are_split_80_20_and_stratified():
    train, test = digits("train"), digits("test")
    assert (train.num_examples, test.num_examples) == (1437, 360)
    assert test.class_names == tuple("0123456789")
    labels = [test.read(i)[1] for i in range(360)]
    assert set(np.bincount(labels)) <= {35, 36, 37}


def test_digits_are_the_scanned_images_and_none_is_in_both_splits():
    scanned = load_digits()
    known = {
        np.rint(image * 255 / 16).astype(np.uint8).tobytes(): label
        for image, label in zip(scanned.images, scanned.target, strict=True)
    }
    seen = {}
    for split in ("train", "test"):
        source = digits(split)
        for i in range(source.num_examples):
            image, label = source.read(i)
            assert image.shape == (8, 8, 3) and image.dtype == np.uint8
            assert known[image[..., 0].tobytes()] == label
            seen.setdefault(image.tobytes(), set()).add(split)
    assert {len(splits) for splits in seen.values()} == {1}


def test_the_split_is_fixed():
    assert [digits("test").read(i)[1] for i in range(8)] == [7, 6, 3, 7, 7, 3, 2, 8]


def test_unknown_names_are_refused():
    with pytest.raises(
        UserError, match="no data source 'dir'; there are: digits, tfds"
    ):
        open_source("dir", dataset="", data_dir="", split="train")
    with pytest.raises(UserError, match="splits 'train' and 'test', not 'val'"):
        digits("val")
    with pytest.raises(UserError, match="TFDS knows no dataset 'cifar11'"):
        open_source("tfds", dataset="cifar11", data_dir="", split="train")


def test_data_that_is_not_there_names_the_command_that_gets_it(tmp_path: Path):
    with pytest.raises(UserError) as error:
        open_source("tfds", dataset="cifar10", data_dir=str(tmp_path), split="train")
    message = str(error.value)
    assert str(tmp_path) in message and "\n" not in message
    assert "tfds.builder('cifar10', file_format='array_record')" in message


@pytest.mark.skipif(
    not (DEFAULT_TFDS / "cifar10").exists(), reason="no CIFAR-10 on this machine"
)
def test_tfds_is_read_without_tensorflow():
    source = open_source("tfds", dataset="cifar10", data_dir="", split="test[:50%]")
    assert source.num_examples == 5000
    assert source.class_names[3] == "cat"
    image, label = source.read(0)
    assert isinstance(image, bytes) and 0 <= label < 10
    with pytest.raises(UserError, match="splits train, test; nothing is in 'val'"):
        open_source("tfds", dataset="cifar10", data_dir="", split="val")


def test_synthetic_images_are_the_same_every_time():
    def opened(split: str, dataset: str = "3x20x8"):
        return open_source("synthetic", dataset=dataset, data_dir="", split=split)

    train, test = opened("train"), opened("test")
    assert (train.num_examples, test.num_examples) == (20, 2)
    assert train.class_names == ("0", "1", "2")
    image, label = train.read(4)
    assert image.shape == (8, 8, 3) and image.dtype == np.uint8 and label == 1
    np.testing.assert_array_equal(image, opened("train").read(4)[0])
    assert (image != test.read(1)[0]).any()
    for wrong in ("", "3x20", "0x20x8"):
        with pytest.raises(UserError, match="CLASSESxEXAMPLESxSIZE"):
            opened("train", wrong)
