"""Reading single examples: what is broken is named, or skipped and counted."""

from collections.abc import Callable

import numpy as np

from nest.data.images import Picture, open_picture
from nest.data.sources import Source
from nest.errors import UserError


class Reader:
    """Reads the examples of a source; may be shared by threads.

    Args:
      skip_corrupt: leave unreadable images out instead of stopping.

    Attributes:
      skipped: index -> why, of the examples left out so far.
    """

    def __init__(self, source: Source, *, skip_corrupt: bool):
        self.source = source
        self.skipped: dict[int, str] = {}
        self._skip_corrupt = skip_corrupt

    def read(
        self, i: int, crop: Callable[[Picture], np.ndarray]
    ) -> tuple[np.ndarray, int] | None:
        """Return what `crop` makes of the image, and its label; None if left out.

        Raises:
          UserError: the image cannot be read and nothing may be left out, or its label
            is none of the classes.
        """
        i = int(i)
        image = None
        try:
            image, label = self.source.read(i)
            self._check_label(i, label)
            return crop(open_picture(image)), label
        except OSError as error:
            reason = (
                "no bytes"
                if isinstance(image, bytes) and not image
                else error.strerror or str(error)
            )
        if not self._skip_corrupt:
            raise UserError(
                f"{self.source.describe(i)} is not a readable image ({reason}); "
                f"replace it, or set --config.data.skip_corrupt=True"
            )
        self.skipped[i] = reason
        return None

    def _check_label(self, i: int, label: int) -> None:
        classes = len(self.source.class_names)
        if not 0 <= label < classes:
            raise UserError(
                f"{self.source.describe(i)} has the label {label}, but there are "
                f"{classes} classes; mend the dataset"
            )

    def read_or_next(
        self, i: int, crop: Callable[[Picture], np.ndarray]
    ) -> tuple[np.ndarray, int]:
        """As `read`, with the next readable example in the place of one left out."""
        for k in range(self.source.num_examples):
            example = self.read((i + k) % self.source.num_examples, crop)
            if example is not None:
                return example
        raise UserError("not a single image of this split is readable")

    def report(self, skipped: dict[int, str] | None = None) -> str | None:
        """Say in one line what was left out so far, or None.

        Args:
          skipped: of all hosts; default: those of this reader.
        """
        skipped = self.skipped if skipped is None else skipped
        if not skipped:
            return None
        first = "; ".join(
            f"{self.source.describe(i)} ({skipped[i]})" for i in sorted(skipped)[:3]
        )
        return (
            f"{len(skipped)} of {self.source.num_examples} images were unreadable "
            f"and left out: {first}{'; ...' if len(skipped) > 3 else ''}"
        )
