"""Everything that is shown of an image: computed once, drawn by others."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nest.augment.recipe import model_input
from nest.explain.gradcat import Tree, block_box, check_tree, gradcat
from nest.explain.loading import Classifier
from nest.explain.methods import METHODS, compile_method, stream
from nest.models.classifier import NesT

SHOWN = ("cam", "grad_cam", "hires_cam_below", "rollout", "input_gradient")


def explain_images(
    classifier: Classifier,
    images: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    width: int,
    sign: int,
    batch_size: int,
) -> Iterator[dict[str, Any]]:
    """Explain any number of images in the memory of one batch.

    Args:
      images: pairs of uint8 (S, S, 3) and the classes to explain, int (K,); a class of
        -1, -2, ... stands for the most, the second most likely, and so on.
      width: how many of the best paths to list.
      sign: 1 or -1, see `gradcat`.

    Yields:
      For each image a dict of plain numbers, ready for JSON: "image_size", and
      "classes", each with its "class", "name", "logit", "probability"; "levels", top
      first, with their blocks' signed "values", (side, side); the "path" and the
      "best_paths", top first, as blocks with level, row, column, value and pixel box;
      and "heat_maps", signed, by method.

    Raises:
      ValueError: the model has one level.
    """
    check_tree(classifier.model)
    graphdef, params = classifier.split()

    def method(
        model: NesT, images: jax.Array, classes: jax.Array
    ) -> tuple[jax.Array, Tree, dict[str, jax.Array]]:
        images = model_input(images, classifier.mean, classifier.std)
        order = jnp.argsort(-model(images), axis=-1, stable=True)
        ranks = jnp.maximum(-1 - classes, 0)
        likely = jnp.take_along_axis(order, ranks, axis=1)
        classes = jnp.where(classes < 0, likely, classes)
        tree = gradcat(model, images, classes, sign=sign, width=width)
        maps = {name: METHODS[name](model, images, classes) for name in SHOWN}
        return classes, tree, maps

    explain = compile_method(graphdef, method)
    for classes, tree, maps in stream(explain, params, images, batch_size=batch_size):
        probabilities = np.exp(tree.logits - tree.logits.max())
        probabilities = probabilities / probabilities.sum()
        yield {
            "image_size": classifier.image_size,
            "classes": [
                {
                    "class": int(c),
                    "name": classifier.class_names[c],
                    "logit": float(tree.logits[c]),
                    "probability": float(probabilities[c]),
                    **_describe(tree, k, classifier.image_size),
                    "heat_maps": {name: maps[name][k].tolist() for name in SHOWN},
                }
                for k, c in enumerate(classes)
            ],
        }


def _describe(tree: Tree, k: int, image_size: int) -> dict[str, Any]:
    """The part of a tree of one image that explains its k-th class."""
    levels = [
        {"level": i + 1, "values": values[k].tolist()}
        for i, values in enumerate(tree.values)
    ]

    def blocks(path: np.ndarray) -> list[dict[str, Any]]:
        return [
            {
                "level": i + 1,
                "row": int(row),
                "column": int(column),
                "value": float(tree.values[i][k, row, column]),
                "box": block_box(image_size, tree.values[i].shape[-1], row, column),
            }
            for i, (row, column) in reversed(list(enumerate(path.tolist())))
        ]

    return {
        "levels": levels[::-1],
        "path": blocks(tree.path[k]),
        "best_paths": [
            {"score": float(score), "blocks": blocks(path)}
            for path, score in zip(tree.paths[k], tree.scores[k], strict=True)
        ],
    }
