"""The trained generator of a run."""

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from nest.errors import UserError
from nest.generation.sampling import Sample, make_sampler, sample_batches
from nest.training import gan_setup as setup
from nest.training import workdir
from nest.training.checkpoints import Checkpoints
from nest.weights.arrays import compare, flatten, parameters, unflatten


@dataclasses.dataclass(frozen=True)
class TrainedGenerator:
    """A generator with the average of its parameters.

    Attributes:
      graphdef, params: of the module, split.
      noise_size: length of a noise vector.
      image_size: in pixels.
      step: how long it was trained.
    """

    graphdef: nnx.GraphDef
    params: dict
    noise_size: int
    image_size: int
    step: int

    def sample(
        self, noise: jax.Array | np.ndarray, *, batch_size: int
    ) -> Iterator[np.ndarray]:
        """Yield the images of the noise (N, noise_size), uint8 (b, S, S, 3)."""
        return sample_batches(self._sampler, self.params, noise, batch_size=batch_size)

    @cached_property
    def _sampler(self) -> Sample:
        return make_sampler(self.graphdef)


def load_generator(path: Path, which: str) -> TrainedGenerator:
    """Load a checkpoint of a GAN's run, the moving average of its generator.

    Args:
      path: the run's workdir.
      which: "latest" or a step.

    Raises:
      UserError: no such run or checkpoint, or a run of something else.
    """
    config = workdir.read_config(path, task="gan")
    checkpoints = Checkpoints(path, read_only=True)
    try:
        step, state, _ = checkpoints.restore(which)
    finally:
        checkpoints.close()
    model = nnx.eval_shape(lambda: setup.build_generator(config, nnx.Rngs(0)))
    params = unflatten(flatten(state["ema"]))
    try:
        compare(flatten(params), parameters(model), allow=())
    except ValueError as error:
        raise UserError(f"{path} does not fit its config.json: {error}") from error
    return TrainedGenerator(
        graphdef=nnx.graphdef(model),
        params=params,
        noise_size=model.noise_size,
        image_size=model.image_size,
        step=step,
    )
