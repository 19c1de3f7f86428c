"""Localization over an evaluation split: where is what the classifier sees?"""

from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx

from nest.augment.recipe import model_input
from nest.data.boxes import open_boxes, read_with_boxes
from nest.data.reader import Reader
from nest.errors import UserError
from nest.explain.localization import localize
from nest.explain.methods import METHODS, compile_method, enlarge, stream, to_unit
from nest.models.classifier import NesT


def evaluate_localization(
    config: ml_collections.ConfigDict,
    reader: Reader,
    graphdef: nnx.GraphDef,
    params: dict,
) -> dict[str, Any]:
    """Localize the true class of every image with a box, as `config.localization` says.

    Returns:
      "method", "threshold", and what `localize` returns.

    Raises:
      UserError: a field of the section is wrong, or there are no boxes.
    """
    section = config.localization
    check(section)
    boxes = open_boxes(section.boxes, reader.source)
    size, found = config.model.image_size, []

    def read() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for image, label, inside in read_with_boxes(
            reader, boxes, size=size, crop_fraction=config.data.eval_crop
        ):
            found.append((label, inside))
            yield image, np.array([label], np.int32)

    def method(
        model: NesT, images: jax.Array, classes: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        images = model_input(images, config.data.mean, config.data.std)
        maps = METHODS[section.method](model, images, classes)[:, 0]
        return to_unit(enlarge(maps, size)), model(images).argmax(axis=-1)

    explained = stream(
        compile_method(graphdef, method),
        params,
        read(),
        batch_size=config.eval_batch_size,
    )

    def examples() -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
        for map, predicted in explained:
            label, inside = found.pop(0)
            yield map, inside, bool(predicted == label)

    figures = localize(
        examples(), threshold=section.threshold, thresholds=section.thresholds
    )
    if figures["examples"] == 0:
        raise UserError("no image of the split has a box inside its crop")
    return {"method": section.method, "threshold": section.threshold} | figures


def check(section: ml_collections.ConfigDict) -> None:
    """Raise UserError for a field of `config.localization` out of its range."""
    if section.method not in METHODS:
        raise UserError(
            f"config.localization.method = {section.method!r}; there are: "
            f"{', '.join(METHODS)}"
        )
    if not 0 <= section.threshold <= 1:
        raise UserError(
            f"config.localization.threshold = {section.threshold}; it must be in [0, 1]"
        )
    if section.thresholds < 1:
        raise UserError(
            f"config.localization.thresholds = {section.thresholds}; it must be "
            f"positive"
        )
