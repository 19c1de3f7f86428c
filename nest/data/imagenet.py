"""The two tars of ILSVRC-2012 -> the directory that TFDS reads, without TensorFlow.

A shard appears under its name when it is complete, and dataset_info.json names a split
when all its shards are there; so an interrupted run goes on with the missing shards.
"""

import io
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tqdm import tqdm

from nest.data.ilsvrc import NUM_IMAGES, Entry, list_images, read_image
from nest.errors import UserError
from nest.lock import lock_folder

NAME, VERSION = "imagenet2012", "5.1.0"
SHARD_BYTES = 150_000_000


def prepare(
    tars: Mapping[str, Path],
    data_dir: Path,
    *,
    num_images: Mapping[str, int] | None = NUM_IMAGES,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write the splits of `tars` as ArrayRecord shards; say what is done already.

    Args:
      tars: "train", "validation" or both -> the tar of that split.
      data_dir: where the directory imagenet2012/5.1.0 is, or comes to be.
      num_images: how many images each tar has to hold; None takes what is there.
      shard_bytes: about the size of a shard.

    Returns:
      The directory that holds the shards.

    Raises:
      UserError: a tar is missing, damaged or another one, or `data_dir` cannot be
        written, has too little room or holds something else.
    """
    builder = _builder(data_dir)
    folder = Path(builder.data_dir)
    for split in tars:
        if split in builder.info.splits:
            print(
                f"{split} is prepared in {folder} already "
                f"({builder.info.splits[split].num_examples:,} images); to prepare it "
                f"again, move that folder away"
            )
    tars = {split: tars[split] for split in tars if split not in builder.info.splits}
    if not tars:
        return folder
    with lock_folder(folder, option="--data_dir"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about EXIF that nobody reads.
        shards = {}
        for split, tar in tars.items():
            expected = None if num_images is None else num_images[split]
            entries = list_images(tar, split, expected)
            shards[split] = _plan(folder, split, entries, shard_bytes)
        for split, tar in tars.items():
            _write_split(tar, split, shards[split], builder.info.features)
            _write_metadata(data_dir, split, shards[split])
            total = sum(map(len, shards[split].values()))
            print(f"{split}: {total:,} images in {len(shards[split]):,} shards")
    return folder


def _builder(data_dir: Path) -> tfds.core.DatasetBuilder:
    try:
        # By its class: tfds.builder would trust a folder without dataset_info.json.
        return tfds.builder_cls(NAME)(
            data_dir=data_dir, version=VERSION, file_format="array_record"
        )
    except ValueError as error:
        raise UserError(
            f"{data_dir / NAME / VERSION} holds a dataset in another format than "
            f"array_record ({error}); give another --data_dir"
        ) from error


def _plan(
    folder: Path, split: str, entries: list[Entry], shard_bytes: int
) -> dict[Path, list[Entry]]:
    """Deal the images out to shards, so that any few shards hold all classes alike.

    The images of a shard are in the order of the tar, for reading without going back.
    """
    size = sum(entry.size for entry in entries)
    num_shards = min(math.ceil(size / shard_bytes), len(entries)) or 1
    template = _template(folder, split)
    shards = {
        Path(template.sharded_filepath(shard_index=i, num_shards=num_shards)): entries[
            i::num_shards
        ]
        for i in range(num_shards)
    }
    pattern = f"{NAME}-{split}.*-of-*"
    for path in folder.glob(f"{pattern}.part"):
        path.unlink()
    strange = sorted(set(folder.glob(pattern)) - shards.keys())
    if strange:
        raise UserError(
            f"{folder} holds {strange[0].name} of another preparation, this one has "
            f"{num_shards:,} shards; remove `{folder}/{pattern}` or give another "
            f"--data_dir"
        )
    return shards


def _template(folder: Path, split: str) -> tfds.core.ShardedFileTemplate:
    return tfds.core.ShardedFileTemplate(
        dataset_name=NAME, data_dir=folder, split=split, filetype_suffix="array_record"
    )


def _write_split(
    tar: Path,
    split: str,
    shards: dict[Path, list[Entry]],
    features: tfds.features.FeaturesDict,
) -> None:
    """Write the shards that are missing or do not hold what they should."""
    missing = {
        path: entries
        for path, entries in shards.items()
        if not _holds(path, entries, features)
    }
    folder = next(iter(shards)).parent
    needed = sum(entry.size for entries in missing.values() for entry in entries)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder} has room for {free / 1e9:,.3f} GB, {split} needs "
            f"{needed / 1e9:,.3f} GB more; make room or give another --data_dir"
        )
    serializer = ExampleSerializer(features.get_serialized_info())
    pool = ThreadPoolExecutor(os.cpu_count())
    total = sum(map(len, shards.values()))
    left = sum(map(len, missing.values()))
    with (
        tar.open("rb") as file,
        tqdm(
            desc=split,
            total=total,
            initial=total - left,
            unit=" images",
            smoothing=0.05,
            disable=None,
        ) as bar,
    ):

        def record_of(entry: Entry) -> bytes:
            image = read_image(file, split, entry)
            example = {
                "file_name": entry.file_name,
                "image": io.BytesIO(image),
                "label": entry.label,
            }
            proto = serializer.get_tf_example(features.encode_example(example))
            # Else the order of the features is another in every process.
            return proto.SerializeToString(deterministic=True)

        try:
            for path, entries in missing.items():
                _write_shard(path, _counted(pool.map(record_of, entries), bar))
        finally:
            pool.shutdown(cancel_futures=True)


def _counted(records: Iterator[bytes], bar: tqdm) -> Iterator[bytes]:
    for record in records:
        yield record
        bar.update()


def _holds(
    path: Path, entries: list[Entry], features: tfds.features.FeaturesDict
) -> bool:
    """Tell whether a shard has as many records, and the same first and last one."""
    if not path.exists():
        return False
    last = len(entries) - 1
    try:
        reader = ArrayRecordReader(str(path))
        records = reader.read([0, last]) if reader.num_records() == last + 1 else []
        reader.close()  # Raises if anything was wrong before.
        names = [
            features.deserialize_example_np(
                record, decoders={"image": tfds.decode.SkipDecoding()}
            )["file_name"].decode()
            for record in records
        ]
    except (IndexError, RuntimeError, ValueError):
        return False
    return names == [entries[0].file_name, entries[last].file_name]


def _write_shard(path: Path, records: Iterator[bytes]) -> None:
    """Write under another name first, so that a shard is whole or not there.

    Raises:
      UserError: the disk is full or fails.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        writer = ArrayRecordWriter(str(part), "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()
        with part.open("rb") as file:
            os.fsync(file)
        part.replace(path)
    except (OSError, RuntimeError) as error:
        raise _unwritable(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def _write_metadata(
    data_dir: Path, split: str, shards: dict[Path, list[Entry]]
) -> None:
    """Add the split to dataset_info.json, the file that makes it a dataset."""
    builder = _builder(data_dir)
    folder = Path(builder.data_dir)
    added = tfds.core.SplitInfo(
        name=split,
        shard_lengths=[len(entries) for entries in shards.values()],
        num_bytes=sum(path.stat().st_size for path in shards),
        filename_template=_template(folder, split),
    )
    splits = [*builder.info.splits.values(), added]
    builder.info.set_splits(tfds.core.splits.SplitDict(splits))
    part = folder / "metadata.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        builder.info.features.save_config(part)
        builder.info.write_dataset_info_json(part)
        for name in ("features.json", "label.labels.txt", "dataset_info.json"):
            (part / name).replace(folder / name)  # The last one makes it complete.
        part.rmdir()
    except OSError as error:
        raise _unwritable(folder / "dataset_info.json", error) from error


def _unwritable(path: Path, error: OSError | RuntimeError) -> UserError:
    # ArrayRecord: "write() failed: No space left on device; writing ...; at byte ..."
    reason = getattr(error, "strerror", None) or str(error).partition(";")[0]
    return UserError(
        f"{path} cannot be written ({reason}); finished shards stay: make room on that "
        f"disk and give the same command again"
    )
