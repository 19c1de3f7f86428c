"""What a source of images is."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Source:
    """One split of a dataset.

    Attributes:
      read: index -> (image, label). The image is what the dataset holds: the bytes of
        an image file, or a uint8 array (H, W, 3).
      num_examples: valid indices are 0 .. num_examples - 1.
      class_names: one per label.
      describe: index -> what to call this example when it is broken, a path say.
      boxes: index -> the boxes of the example's object, each (left, top, right, bottom)
        in pixels, the last two exclusive; None where the source knows none.
    """

    read: Callable[[int], tuple[bytes | np.ndarray, int]]
    num_examples: int
    class_names: tuple[str, ...]
    describe: Callable[[int], str]
    boxes: Callable[[int], tuple[tuple[int, int, int, int], ...]] | None = None
