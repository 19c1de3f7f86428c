"""A trained classifier as the judge of images: what it recognises, and its features.

Its features are those that the head sees: the mean over the tokens of the normalized
top level. A distance in their space is no FID, and one to images that the classifier
was trained on counts the gap between training and test images in.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nest.augment.recipe import model_input
from nest.data.images import center_crop, open_picture
from nest.errors import UserError
from nest.generation.frechet import Statistics, gather_statistics
from nest.generation.real import RealImages, cached
from nest.training.devices import batch_sharding, data_mesh, replicated
from nest.weights import Weights, read_weights
from nest.weights.arrays import flatten

RECOGNISED = 0.9  # a probability above it counts
KEPT = 10_000  # features at most that are kept one by one, a random choice
VERSION = 1  # of what a cache file holds; raise it when a result changes


@dataclasses.dataclass(frozen=True)
class Judge:
    """A classifier ready to judge.

    Attributes:
      source: where its weights come from, a run's with the step.
      fingerprint: of its weights and of how images are given to it.
      class_names: one per class.
      image_size: in pixels; images of other sizes are resized.
      batch_size: images at a time.
      extract: uint8 (batch_size, image_size, image_size, 3) -> features (batch_size,
        D) and probabilities (batch_size, classes), float32.
    """

    source: str
    fingerprint: str
    class_names: tuple[str, ...]
    image_size: int
    batch_size: int
    extract: Callable[[np.ndarray], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True, eq=False)
class Judgement:
    """What a judge says about a set of images.

    Attributes:
      statistics: of all features.
      features: float32 (at most `KEPT`, D), randomly chosen and in random order.
      recognised: int64 (classes,), images recognised as each class.
    """

    statistics: Statistics
    features: np.ndarray
    recognised: np.ndarray

    @property
    def count(self) -> int:
        """How many images were judged."""
        return self.statistics.count

    def shares(self) -> np.ndarray:
        """Return each class's share of the recognised images, (classes,)."""
        return self.recognised / max(1, self.recognised.sum())


def load_judge(source: str | Path, *, batch_size: int = 256) -> Judge:
    """Load a trained classifier.

    Args:
      source: whatever `nest.weights.read_weights` takes, "WORKDIR[:best|latest|STEP]"
        among it.
      batch_size: images at a time, rounded up to a multiple of the devices.

    Raises:
      UserError: no such weights, or they are no classifier's of coloured images.
    """
    weights = read_weights(source)
    graphdef, state = nnx.split(weights.build())
    mesh = data_mesh(jax.local_devices())
    params = jax.device_put(nnx.to_pure_dict(state), replicated(mesh))
    if len(weights.mean) != 3:
        raise UserError(
            f"{source} takes images of {len(weights.mean)} channels, the generator "
            f"makes 3; give a classifier of coloured images"
        )

    @jax.jit
    def extract(params: dict, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graphdef, params)
        maps = model.features(model_input(images, weights.mean, weights.std))
        tokens = model.norm(maps[-1])
        features = tokens.astype(jnp.float32).mean(axis=(1, 2))
        return features, jax.nn.softmax(model.score(tokens))

    count = weights.model["num_classes"]
    return Judge(
        source=weights.source,
        fingerprint=fingerprint(weights),
        class_names=weights.class_names or tuple(f"class {k}" for k in range(count)),
        image_size=weights.model["image_size"],
        batch_size=-(-batch_size // mesh.size) * mesh.size,
        extract=lambda images: extract(
            params, jax.device_put(images, batch_sharding(mesh))
        ),
    )


def judge_images(judge: Judge, batches: Iterable[np.ndarray], count: int) -> Judgement:
    """Judge images.

    Args:
      batches: uint8 (n, S, S, 3), of one size.
      count: of images in all batches, at most.

    Raises:
      UserError: fewer than two images, or features that are not finite.
      ValueError: more images than announced.
    """
    order = np.random.default_rng(0).permutation(count)[:KEPT]
    place = np.full(count, -1)
    place[order] = np.arange(len(order))
    kept: dict[int, np.ndarray] = {}
    recognised = np.zeros(len(judge.class_names), np.int64)
    seen = 0

    def features() -> Iterator[np.ndarray]:
        nonlocal seen
        for rows, probabilities in extract_features(judge, batches):
            sure = probabilities.max(axis=1) > RECOGNISED
            np.add.at(recognised, probabilities.argmax(axis=1)[sure], 1)
            for row in np.flatnonzero(place[seen : seen + len(rows)] >= 0):
                kept[place[seen + row]] = rows[row]
            seen += len(rows)
            yield rows

    try:
        statistics = gather_statistics(features())
    except ValueError as error:
        raise UserError(f"{judge.source} cannot judge these images: {error}") from error
    if seen > count:
        raise ValueError(f"{seen} images came where {count} were announced")
    chosen = np.stack([kept[k] for k in sorted(kept)])
    return Judgement(statistics, chosen, recognised)


def judge_real_images(judge: Judge, real: RealImages, cache: Path) -> Judgement:
    """Judge real images, or return what was found before; see `real.cached`.

    Args:
      cache: folder.

    Raises:
      UserError: fewer than two images.
    """

    def compute() -> dict[str, np.ndarray]:
        found = judge_images(judge, real.batches(), real.count)
        return dict(
            mean=found.statistics.mean,
            covariance=found.statistics.covariance,
            count=np.array(found.count),
            features=found.features,
            recognised=found.recognised,
        )

    key = real.key() | {"extractor": judge.fingerprint, "version": VERSION}
    arrays = cached(cache, key, compute)
    statistics = Statistics(arrays["mean"], arrays["covariance"], int(arrays["count"]))
    return Judgement(statistics, arrays["features"], arrays["recognised"])


def extract_features(
    judge: Judge, batches: Iterable[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Return features (n, D) and probabilities (n, classes) for batches of images.

    Args:
      batches: uint8 (n, S, S, 3); resized as a whole, nothing is cut off.
    """
    size = judge.image_size
    for batch in batches:
        for start in range(0, len(batch), judge.batch_size):
            images = _resized(batch[start : start + judge.batch_size], size)
            # One shape, one compilation.
            filled = np.zeros((judge.batch_size, size, size, 3), np.uint8)
            filled[: len(images)] = images
            features, probabilities = jax.device_get(judge.extract(filled))
            yield features[: len(images)], probabilities[: len(images)]


def _resized(images: np.ndarray, size: int) -> np.ndarray:
    if images.shape[1:3] == (size, size):
        return images
    return np.stack(
        [center_crop(open_picture(image), size, fraction=1.0) for image in images]
    )


def fingerprint(weights: Weights) -> str:
    """Return a digest of the parameters, their model and its input's normalization."""
    told: dict[str, Any] = dict(model=weights.model, mean=weights.mean, std=weights.std)
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name, array in sorted(flatten(weights.params).items()):
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
