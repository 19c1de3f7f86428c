"""What both loops do with `config.data`: splits, batches, and what to say of them."""

import os
import sys
from collections.abc import Iterator

import jax
import ml_collections

from nest.data.pipeline import Batch, this_host, train_batches
from nest.data.reader import Reader
from nest.data.sources import open_source
from nest.training import hosts


def open_split(config: ml_collections.ConfigDict, split: str) -> Reader:
    """Open a split of the dataset that `config.data` names."""
    data = config.data
    source = open_source(
        data.source,
        dataset=data.dataset,
        data_dir=data.data_dir,
        split=split,
        holdout=data.holdout,
    )
    return Reader(source, skip_corrupt=data.skip_corrupt)


def build_train_batches(
    config: ml_collections.ConfigDict, reader: Reader, *, start: int, stop: int
) -> Iterator[Batch]:
    """Build this host's training batches for the steps start .. stop - 1."""
    data = config.data
    return train_batches(
        reader,
        size=config.model.image_size,
        batch_size=config.batch_size,
        start_step=start,
        num_steps=stop,
        seed=config.seed,
        host=this_host(),
        in_memory=data.in_memory,
        eval_crop=data.eval_crop,
        crop_area=data.crop_area,
        crop_aspect=data.crop_aspect,
        threads=data.threads,
    )


def mend_waiting(config: ml_collections.ConfigDict) -> str:
    """What to do when the accelerator waits for its input."""
    if config.data.in_memory:
        return "leave more of the CPU to this process, or use a larger batch"
    return (
        f"raise --config.data.threads (now {config.data.threads}; this machine has "
        f"{os.cpu_count()} cores), store the images smaller, or, if they fit, set "
        f"--config.data.in_memory=True"
    )


def report_skipped(*readers: Reader) -> None:
    """Say on standard error which images were left out, on any host."""
    for reader in readers:
        report = reader.report(skipped_anywhere(reader))
        if report and jax.process_index() == 0:
            print(report, file=sys.stderr)


def skipped_anywhere(reader: Reader) -> dict[int, str]:
    """Join what the hosts left out; a split in memory each of them has read whole."""
    everywhere = hosts.gather(list(reader.skipped.items()))
    return {index: reason for items in everywhere for index, reason in items}
