"""One training step of the classifier, jitted over all devices."""

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import clu.metrics
import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from nest.training import devices
from nest.training.accumulation import mean_over_parts
from nest.weights.arrays import join


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class State:
    """Everything that training changes.

    As a pytree a state without statistics has no such entry, so that checkpoints of
    NesT are what they were before there were any.

    Attributes:
      step: int32 (), finished steps.
      params: the model's parameters, float32.
      opt_state: of the optimizer.
      ema: moving average of the parameters, and of the statistics if there are any, in
        one dict; or None where it is off.
      statistics: running means and variances of batch normalization, float32, or None
        for a model without.
    """

    step: jax.Array
    params: dict
    opt_state: Any
    ema: dict | None
    statistics: dict | None = None

    @property
    def variables(self) -> dict:
        """Parameters and statistics in one dict: what the model is merged from."""
        return join(self.params, self.statistics)

    @property
    def eval_params(self) -> dict:
        """The variables to evaluate: their average where there is one."""
        return self.variables if self.ema is None else self.ema

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
        """Return the entries and their names, as JAX asks of a pytree."""
        names = tuple(
            field.name
            for field in dataclasses.fields(self)
            if field.name != "statistics" or self.statistics is not None
        )
        key = jax.tree_util.GetAttrKey
        return [(key(name), getattr(self, name)) for name in names], names

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], entries: Iterable[Any]) -> "State":
        """Undo `tree_flatten_with_keys`."""
        return cls(**dict(zip(names, entries, strict=True)))


@flax.struct.dataclass
class TrainMetrics(clu.metrics.Collection):
    """Means over the steps between two log lines."""

    loss: clu.metrics.Average.from_output("loss")
    accuracy: clu.metrics.Average.from_output("accuracy")
    grad_norm: clu.metrics.Average.from_output("grad_norm")
    param_norm: clu.metrics.Average.from_output("param_norm")


Augment = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
TrainStep = Callable[[State, dict], tuple[State, TrainMetrics]]


def split_model(model: nnx.Module) -> tuple[nnx.GraphDef, dict, dict | None]:
    """Split a model into its graph, its parameters and, if any, its statistics."""
    graphdef, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    return (
        graphdef,
        nnx.to_pure_dict(params),
        nnx.to_pure_dict(statistics) or None,
    )


def init_state(
    params: dict,
    optimizer: optax.GradientTransformation,
    *,
    ema: bool,
    statistics: dict | None = None,
) -> State:
    """Return the state before the first step."""
    averaged = join(params, statistics)
    return State(
        step=jnp.int32(0),
        params=params,
        opt_state=optimizer.init(params),
        ema=jax.tree.map(jnp.copy, averaged) if ema else None,
        statistics=statistics,
    )


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    augment: Augment,
    ema_decay: float,
    accumulation_steps: int,
    seed: int,
) -> TrainStep:
    """Build the jitted step over all devices.

    Args:
      augment: uint8 images, labels and a key to the model's input and targets.
      ema_decay: ignored when the state has no average.
      accumulation_steps: the batch is worked off in so many parts; the gradient is the
        mean over the whole batch. Batch normalization then sees a part at a time; its
        running statistics move once a step, to the mean of the parts'.
      seed: all keys are derived from it and the state's step.

    Returns:
      A function of the state, which it consumes, and a global {"image", "label"}.
    """

    def loss_of(
        params: dict,
        statistics: dict | None,
        images: jax.Array,
        targets: jax.Array,
        key: jax.Array,
    ) -> tuple[jax.Array, tuple[jax.Array, dict | None]]:
        model = nnx.merge(graphdef, join(params, statistics))
        logits = model(images, rngs=nnx.Rngs(dropout=key))
        loss = optax.softmax_cross_entropy(logits, targets).mean()
        accuracy = (logits.argmax(axis=-1) == targets.argmax(axis=-1)).mean()
        return loss, (accuracy, split_model(model)[-1])

    grad_of = jax.value_and_grad(loss_of, has_aux=True)

    def step(state: State, batch: dict) -> tuple[State, TrainMetrics]:
        # The parameters were drawn from the seed's own key.
        _, training_key = jax.random.split(jax.random.key(seed))
        key = jax.random.fold_in(training_key, state.step)
        augment_key, model_key = jax.random.split(key)
        images, targets = augment(batch["image"], batch["label"], augment_key)
        (loss, (accuracy, statistics)), grads = mean_over_parts(
            partial(grad_of, state.params, state.statistics),
            accumulation_steps,
            model_key,
            images,
            targets,
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            ema = optax.incremental_update(join(params, statistics), ema, 1 - ema_decay)
        metrics = TrainMetrics.single_from_model_output(
            loss=loss,
            accuracy=accuracy,
            grad_norm=optax.tree.norm(grads),
            param_norm=optax.tree.norm(params),
        )
        return State(state.step + 1, params, opt_state, ema, statistics), metrics

    everywhere = devices.replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, devices.batch_sharding(mesh)),
        out_shardings=everywhere,
        donate_argnums=0,
    )
