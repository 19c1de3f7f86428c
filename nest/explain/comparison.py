"""All methods on the same images: the test of `nest.explain.faithfulness` on a run."""

import dataclasses
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from nest.augment.recipe import model_input
from nest.data.images import center_crop
from nest.data.reader import Reader
from nest.data.sources import open_source
from nest.explain import faithfulness
from nest.explain.loading import Classifier, open_eval_split
from nest.explain.methods import (
    METHODS,
    Explain,
    Method,
    compile_method,
    enlarge,
    stream,
)
from nest.models.classifier import NesT


@dataclasses.dataclass(frozen=True)
class Examples:
    """What the methods are tried on; images are uint8 (n, S, S, 3).

    Attributes:
      images, labels: of the evaluation split.
      boxes: (n, 4), left, top, right, bottom of the object, or None.
      grids: mosaics of 2x2 images.
      grid_labels: (n, 4), of their quarters in row-major order.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray | None
    grids: np.ndarray
    grid_labels: np.ndarray


def read_examples(
    config: ml_collections.ConfigDict, *, count: int, mosaics: int, seed: int
) -> Examples:
    """Read the first `count` images of a run's evaluation split, and lay mosaics.

    A mosaic has the model's size, so its tiles are images of half the side. Those of a
    classifier of cluttered canvases are the test digits without clutter: each quarter
    then holds one digit of a size the model knows, and all else in the mosaic are the
    three others.
    """
    reader = open_eval_split(config)
    size = config.model.image_size
    images, labels = _read(reader, size, config.data.eval_crop, count)
    boxes = None
    if reader.source.boxes is not None:
        boxes = np.array([reader.source.boxes(i)[0] for i in range(len(images))])
    if config.data.source == "clutter":
        digits = open_source("digits", dataset="", data_dir="", split="test")
        reader = Reader(digits, skip_corrupt=False)
    tiles = _read(reader, size // 2, config.data.eval_crop, reader.source.num_examples)
    grids, grid_labels = faithfulness.mosaics(*tiles, count=mosaics, seed=seed)
    return Examples(images, labels, boxes, grids, grid_labels)


def _read(
    reader: Reader, size: int, fraction: float, count: int
) -> tuple[np.ndarray, np.ndarray]:
    crop = partial(center_crop, size=size, fraction=fraction)
    count = min(count, reader.source.num_examples)
    read = [reader.read_or_next(i, crop) for i in range(count)]
    images, labels = zip(*read, strict=True)
    return np.stack(images), np.array(labels, np.int32)


class Comparison:
    """Measures methods on one classifier.

    Args:
      steps: of the deletion and insertion curves.
      fill: what deleted pixels become: "black" or "mean", of each image.
      batch_size: images explained at a time.
      seed: of the shuffled weights.
    """

    def __init__(
        self,
        classifier: Classifier,
        examples: Examples,
        *,
        steps: int,
        fill: str,
        batch_size: int,
        seed: int,
    ):
        self._examples = examples
        self._batch_size = batch_size
        self._size = classifier.image_size
        self._graphdef, self._params = classifier.split()
        self._input = partial(model_input, mean=classifier.mean, std=classifier.std)
        self._curves = faithfulness.make_curves(
            self._graphdef, mean=classifier.mean, std=classifier.std, steps=steps
        )
        self._fill = np.zeros_like(examples.images)
        if fill == "mean":
            colour = examples.images.mean(axis=(1, 2), keepdims=True)
            self._fill[:] = colour.round()
        depth = len(classifier.model.levels)
        stages = {"head": 0, "head and top": 1, "all": depth}
        self._shuffled = {
            stage: faithfulness.randomize(
                self._params, np.random.default_rng(seed), levels=levels
            )
            for stage, levels in stages.items()
        }

    def accuracy(self) -> float:
        """Return the share of the images that the classifier is right about."""
        classify, examples = self._compile(_logits), self._examples
        logits = self._run(
            classify, self._params, examples.images, examples.labels[:, None]
        )
        return float((logits.argmax(axis=1) == examples.labels).mean())

    def scores(self, name: str) -> dict[str, np.ndarray]:
        """Measure the method called `name`.

        Returns:
          For every figure one number per image or mosaic, (n,): "quarter" and, where
          there are boxes, "point" in [0, 1]; "deletion" and "insertion", areas in
          [0, 1]; and the rank correlations with the maps of the same model whose head,
          head and top level, and all weights are shuffled.
        """
        explain, examples = self._compile(METHODS[name]), self._examples
        grids = self._run(explain, self._params, examples.grids, examples.grid_labels)
        pointed = faithfulness.pointed_quarters(grids)
        scores = {"quarter": (pointed == np.arange(4)).mean(axis=1)}
        maps = self._of_labels(explain, self._params)
        large = np.asarray(enlarge(jnp.asarray(maps), self._size))
        if examples.boxes is not None:
            scores["point"] = faithfulness.point_in_box(large, examples.boxes)
        parts = [
            self._curves(
                self._params,
                examples.images[k],
                self._fill[k],
                examples.labels[k],
                large[k],
            )
            for k in self._batches()
        ]
        deletion, insertion = (np.concatenate(x) for x in zip(*parts, strict=True))
        scores["deletion"] = faithfulness.area_under(deletion)
        scores["insertion"] = faithfulness.area_under(insertion)
        for stage, params in self._shuffled.items():
            scores[f"shuffled: {stage}"] = faithfulness.rank_correlations(
                maps, self._of_labels(explain, params)
            )
        return scores

    def _compile(self, method: Method) -> Explain:
        def of_pixels(model: NesT, images: jax.Array, classes: jax.Array) -> jax.Array:
            return method(model, self._input(images), classes)

        return compile_method(self._graphdef, of_pixels)

    def _of_labels(self, explain: Explain, params: dict) -> np.ndarray:
        labels = self._examples.labels[:, None]
        return self._run(explain, params, self._examples.images, labels)[:, 0]

    def _run(
        self, explain: Explain, params: dict, images: np.ndarray, classes: np.ndarray
    ) -> np.ndarray:
        pairs = zip(images, classes, strict=True)
        return np.stack(
            list(stream(explain, params, pairs, batch_size=self._batch_size))
        )

    def _batches(self) -> Iterator[slice]:
        for start in range(0, len(self._examples.images), self._batch_size):
            yield slice(start, start + self._batch_size)


def _logits(model: NesT, images: jax.Array, classes: jax.Array) -> jax.Array:
    return model(images)
