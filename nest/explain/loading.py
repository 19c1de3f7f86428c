"""A trained classifier with all that an explanation needs besides."""

import dataclasses
from pathlib import Path

import ml_collections
from flax import nnx

from nest.data.reader import Reader
from nest.models.classifier import NesT
from nest.training import inputs, workdir
from nest.weights import read_weights


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A model and how its images are made.

    Attributes:
      model: with its trained parameters.
      class_names: one per logit.
      image_size: in pixels.
      mean, std: see `nest.augment.recipe.normalize`.
      eval_crop: see `nest.data.images.center_crop`.
    """

    model: NesT
    class_names: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    eval_crop: float

    def split(self) -> tuple[nnx.GraphDef, dict]:
        """Return the model as its graph and its parameters, a dict."""
        graphdef, params = nnx.split(self.model)
        return graphdef, nnx.to_pure_dict(params)


def load_workdir(path: Path, which: str) -> Classifier:
    """Load a checkpoint of a training run, its moving average if it has one.

    Args:
      path: the run's workdir.
      which: "best", "latest" or a step.

    Raises:
      UserError: no such run or checkpoint.
    """
    workdir.read_config(path, task="classifier")  # names what is wrong with it
    return load_weights(f"{path}:{which}")


def load_weights(source: str) -> Classifier:
    """Load a classifier from whatever `nest.weights.read_weights` takes."""
    weights = read_weights(source)
    classes = range(weights.model["num_classes"])
    return Classifier(
        model=weights.build(),
        class_names=weights.class_names or tuple(f"class {k}" for k in classes),
        image_size=weights.model["image_size"],
        mean=weights.mean,
        std=weights.std,
        eval_crop=weights.eval_crop,
    )


def open_eval_split(config: ml_collections.ConfigDict) -> Reader:
    """Open the run's evaluation split."""
    return inputs.open_split(config, config.data.eval_split)
