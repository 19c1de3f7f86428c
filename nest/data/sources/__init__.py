"""Where images come from: each split as random access to its examples."""

from nest.data.sources.source import Source
from nest.errors import UserError

__all__ = ["SOURCES", "Source", "open_source"]

SOURCES = ("digits", "tfds", "folder", "cifar", "clutter", "synthetic")


def open_source(
    name: str, *, dataset: str, data_dir: str, split: str, holdout: float = 0.0
) -> Source:
    """Open one split.

    Args:
      name: one of `SOURCES`.
      dataset: what the source calls it, see the module of that name; "digits" and
        "folder" ignore it.
      data_dir: where the data lies; "digits", "clutter" and "synthetic" ignore
        it.
      split: "train", "test" or what else the source has.
      holdout: share of the examples that "folder" keeps for the split "test" where the
        data has no such split; 0 for none.

    Raises:
      UserError: an unknown source or split, or data that is not on this machine.
    """
    if name == "digits":
        from nest.data.sources import digits

        return digits.open_digits(split)
    if name == "tfds":
        from nest.data.sources import tfds

        return tfds.open_tfds(dataset, data_dir, split)
    if name == "folder":
        from nest.data.sources import folder

        return folder.open_folder(data_dir, split, holdout)
    if name == "cifar":
        from nest.data.sources import cifar

        return cifar.open_cifar(dataset, data_dir, split)
    if name == "clutter":
        from nest.data.sources import clutter

        return clutter.open_clutter(dataset, split)
    if name == "synthetic":
        from nest.data.sources import synthetic

        return synthetic.open_synthetic(dataset, split)
    raise UserError(f"no data source {name!r}; there are: {', '.join(SOURCES)}")
