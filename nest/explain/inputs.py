"""What a user asks for: images and classes, checked before anything is computed."""

from pathlib import Path

import numpy as np

from nest.data.images import center_crop, open_picture
from nest.errors import UserError
from nest.explain.loading import Classifier, open_eval_split
from nest.training.workdir import read_config

ENLARGED = 4  # times at most; beyond, an image is too small to mean anything


def find_classes(
    wanted: list[str], class_names: tuple[str, ...], *, most_likely: int
) -> list[int]:
    """Return class numbers for names or numbers.

    Args:
      wanted: names, or numbers from 0; a name goes before a number.
      most_likely: where none is wanted, so many times -1, -2, ..., which stand for the
        most likely classes; see `nest.explain.report.explain_images`.

    Raises:
      UserError: a class that the model does not have.
    """
    if not wanted:
        return [-1 - k for k in range(min(most_likely, len(class_names)))]
    found = []
    for name in wanted:
        if name in class_names:
            found.append(class_names.index(name))
        elif name.isdecimal() and int(name) < len(class_names):
            found.append(int(name))
        else:
            few = ", ".join(class_names[:10])
            raise UserError(
                f"the model has no class {name!r}; it has {len(class_names)}, numbered "
                f"0 to {len(class_names) - 1}: {few}"
                + (", ..." if len(class_names) > 10 else "")
            )
    return found


def read_images(
    files: list[str], classifier: Classifier
) -> list[tuple[str, np.ndarray]]:
    """Read image files as the model sees them: uint8 (S, S, 3), with their names.

    Raises:
      UserError: a file that is missing, no image, or far smaller than the model's.
    """
    images = []
    for file in files:
        try:
            picture = open_picture(Path(file).read_bytes())
            pixels = center_crop(
                picture, classifier.image_size, fraction=classifier.eval_crop
            )
        except FileNotFoundError as error:
            raise UserError(f"no file {file}; give images that exist") from error
        except OSError as error:
            reason = error.strerror or str(error).split("\n")[0] or "damaged"
            raise UserError(f"{file} is not a readable image ({reason})") from error
        least = -(-classifier.image_size // ENLARGED)
        if min(picture.height, picture.width) < least:
            raise UserError(
                f"{file} has {picture.width}x{picture.height} pixels, too few for a "
                f"model that sees {classifier.image_size} a side; give one "
                f"of at least {least} a side"
            )
        images.append((file, pixels))
    return images


def read_split(
    workdir: Path, classifier: Classifier, count: int
) -> list[tuple[str, np.ndarray]]:
    """Read the first images of the run's evaluation split, like `read_images`."""
    reader = open_eval_split(read_config(workdir, task="classifier"))
    images = []
    for i in range(min(count, reader.source.num_examples)):
        pixels, _ = reader.read_or_next(
            i,
            lambda picture: center_crop(
                picture, classifier.image_size, fraction=classifier.eval_crop
            ),
        )
        images.append((reader.source.describe(i), pixels))
    return images
