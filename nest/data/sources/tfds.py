"""Datasets prepared by TFDS as ArrayRecord files, read without TensorFlow."""

from nest.data.sources.source import Source
from nest.errors import UserError


def open_tfds(dataset: str, data_dir: str, split: str) -> Source:
    """Open a split, for example "train[:90%]".

    Args:
      dataset: the TFDS name, for example "cifar10".
      data_dir: where TFDS data lies; "" means TFDS's own default.
      split: whatever TFDS understands.

    Raises:
      UserError: no such dataset or split, or it is not prepared on this machine.
    """
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
            f"--config.data.data_dir at the folder that holds it, or {_mend(dataset)}"
        )
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(
            f"{builder.data_dir} holds {builder.info.file_format.value} files, which "
            f"have no random access; convert them once: pip install tensorflow && tfds "
            f"convert_format --dataset_dir={builder.data_dir} --out_path=NEW_DIR "
            f"--out_file_format=array_record"
        )
    features = builder.info.features
    named = "label" in features and hasattr(features["label"], "names")
    if "image" not in features or not named:
        raise UserError(
            f"{dataset} has the features {', '.join(features)}; a classifier needs "
            f"an 'image' and a 'label' with class names"
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

    return Source(
        read,
        len(records),
        tuple(features["label"].names),
        lambda i: f"example {i} of {dataset} {split} in {builder.data_dir}",
    )


def _mend(dataset: str) -> str:
    """How to get a dataset that is not there."""
    prepare = (
        f"prepare it once, online: pip install tensorflow importlib_resources && "
        f'python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{dataset}', file_format='array_record')"
        f'.download_and_prepare()"'
    )
    if dataset == "imagenet2012":
        return "prepare it: python scripts/prepare_imagenet.py --help"
    if dataset in ("cifar10", "cifar100"):
        return f"take its original archive: --config.data.source=cifar, or {prepare}"
    return prepare
