"""Where images come from: each split as random access to its examples."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from nest.errors import UserError

SOURCES = ("digits", "tfds")


@dataclasses.dataclass(frozen=True)
class Source:
    """One split of a dataset.

    Attributes:
      read: index -> (image, label). The image is what the dataset holds: the bytes of
        an image file, or a uint8 array (H, W, 3).
      num_examples: valid indices are 0 .. num_examples - 1.
      class_names: one per label.
    """

    read: Callable[[int], tuple[bytes | np.ndarray, int]]
    num_examples: int
    class_names: tuple[str, ...]


def open_source(name: str, *, dataset: str, data_dir: str, split: str) -> Source:
    """Open one split.

    Args:
      name: one of `SOURCES`.
      dataset: the TFDS name, for example "cifar10" (ignored by "digits").
      data_dir: where TFDS data lies; "" means TFDS's own default.
      split: "train" or "test" for "digits"; any TFDS split, for example "train[:90%]".

    Raises:
      UserError: an unknown source or split, or a dataset that is not on this machine.
    """
    if name == "digits":
        return _digits(split)
    if name == "tfds":
        return _tfds(dataset, data_dir, split)
    raise UserError(f"no data source {name!r}; there are: {', '.join(SOURCES)}")


@functools.cache
def _scanned_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # 17 grey levels
    images = np.repeat(images[..., None], 3, axis=-1)
    labels = digits.target.astype(np.int32)
    return train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=0
    )


def _digits(split: str) -> Source:
    """scikit-learn's 1,797 scanned 8x8 digits, split 80/20, stratified and fixed."""
    if split not in ("train", "test"):
        raise UserError(f"digits has the splits 'train' and 'test', not {split!r}")
    part = 0 if split == "train" else 1
    images, labels = _scanned_digits()[part], _scanned_digits()[part + 2]
    return Source(
        read=lambda i: (images[i], int(labels[i])),
        num_examples=len(images),
        class_names=tuple("0123456789"),
    )


def _tfds(dataset: str, data_dir: str, split: str) -> Source:
    """A dataset prepared by TFDS as ArrayRecord, read without TensorFlow."""
    import tensorflow_datasets as tfds

    arguments = {"data_dir": data_dir} if data_dir else {}
    try:
        builder = tfds.builder(dataset, **arguments)
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(
            f"TFDS knows no dataset {dataset!r}; check config.data.dataset"
        ) from error
    if not (builder.data_path / "dataset_info.json").exists():
        raise UserError(
            f"{dataset} is not prepared in {builder.data_dir}; either point "
            f"--config.data.data_dir at the folder that holds it, or prepare it once, "
            f'online: pip install tensorflow importlib_resources && python -c "import '
            f"tensorflow_datasets as tfds; tfds.builder('{dataset}', "
            f"file_format='array_record').download_and_prepare()\""
        )
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(
            f"{builder.data_dir} holds {builder.info.file_format.value} files, which "
            f"have no random access; convert them once: pip install tensorflow && tfds "
            f"convert_format --dataset_dir={builder.data_dir} --out_path=NEW_DIR "
            f"--out_file_format=array_record"
        )
    features = builder.info.features
    if "image" not in features or "label" not in features:
        raise UserError(
            f"{dataset} has the features {', '.join(features)}; a classifier needs "
            f"'image' and 'label'"
        )
    try:
        records = builder.as_data_source(
            split, decoders={"image": tfds.decode.SkipDecoding()}
        )
    except ValueError as error:
        raise UserError(
            f"{dataset} has the splits {', '.join(builder.info.splits)}; nothing is in "
            f"{split!r}"
        ) from error

    def read(i: int) -> tuple[bytes, int]:
        record = records[int(i)]
        return record["image"], record["label"]

    return Source(read, len(records), tuple(features["label"].names))
