"""One training step of the classifier, jitted over all devices."""

import dataclasses
from collections.abc import Callable
from typing import Any

import clu.metrics
import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from nest.training import devices


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Everything that training changes.

    Attributes:
      step: int32 (), finished steps.
      params: the model's parameters, float32.
      opt_state: of the optimizer.
      ema: moving average of the parameters, or None where it is off.
    """

    step: jax.Array
    params: dict
    opt_state: Any
    ema: dict | None

    @property
    def eval_params(self) -> dict:
        """The parameters to evaluate: the average where there is one."""
        return self.params if self.ema is None else self.ema


@flax.struct.dataclass
class TrainMetrics(clu.metrics.Collection):
    """Means over the steps between two log lines."""

    loss: clu.metrics.Average.from_output("loss")
    accuracy: clu.metrics.Average.from_output("accuracy")
    grad_norm: clu.metrics.Average.from_output("grad_norm")
    param_norm: clu.metrics.Average.from_output("param_norm")


Augment = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
TrainStep = Callable[[State, dict], tuple[State, TrainMetrics]]


def init_state(
    params: dict, optimizer: optax.GradientTransformation, *, ema: bool
) -> State:
    """Return the state before the first step."""
    return State(
        step=jnp.int32(0),
        params=params,
        opt_state=optimizer.init(params),
        ema=jax.tree.map(jnp.copy, params) if ema else None,
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
        mean over the whole batch.
      seed: all keys are derived from it and the state's step.

    Returns:
      A function of the state, which it consumes, and a global {"image", "label"}.
    """

    def loss_of(
        params: dict, images: jax.Array, targets: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        logits = nnx.merge(graphdef, params)(images, rngs=nnx.Rngs(dropout=key))
        loss = optax.softmax_cross_entropy(logits, targets).mean()
        return loss, (logits.argmax(axis=-1) == targets.argmax(axis=-1)).mean()

    grad_of = jax.value_and_grad(loss_of, has_aux=True)

    def mean_over_parts(
        params: dict, images: jax.Array, targets: jax.Array, key: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], dict]:
        if accumulation_steps == 1:
            return grad_of(params, images, targets, key)

        # Part i takes rows i, i + k, i + 2k, ...: an equal share of every device's.
        def split(x: jax.Array) -> jax.Array:
            x = x.reshape(-1, accumulation_steps, *x.shape[1:])
            return x.swapaxes(0, 1)

        def add(total: Any, part: tuple) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, grad_of(params, *part)), None

        keys = jax.random.split(key, accumulation_steps)
        parts = (split(images), split(targets), keys)
        like = jax.eval_shape(grad_of, params, *(x[0] for x in parts))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
        total, _ = jax.lax.scan(add, zeros, parts)
        return jax.tree.map(lambda x: x / accumulation_steps, total)

    def step(state: State, batch: dict) -> tuple[State, TrainMetrics]:
        # The parameters were drawn from the seed's own key.
        _, training_key = jax.random.split(jax.random.key(seed))
        key = jax.random.fold_in(training_key, state.step)
        augment_key, model_key = jax.random.split(key)
        images, targets = augment(batch["image"], batch["label"], augment_key)
        (loss, accuracy), grads = mean_over_parts(
            state.params, images, targets, model_key
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            ema = optax.incremental_update(params, ema, 1 - ema_decay)
        metrics = TrainMetrics.single_from_model_output(
            loss=loss,
            accuracy=accuracy,
            grad_norm=optax.tree.norm(grads),
            param_norm=optax.tree.norm(params),
        )
        return State(state.step + 1, params, opt_state, ema), metrics

    everywhere = devices.replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, devices.batch_sharding(mesh)),
        out_shardings=everywhere,
        donate_argnums=0,
    )
