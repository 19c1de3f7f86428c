"""One training step of generator and discriminator, jitted over all devices.

The discriminator learns first, from a batch of real and one of generated images; the
generator then learns against it, from new noise.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import clu.metrics
import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from nest.augment.differentiable import augment_differentiably
from nest.augment.geometric import random_flip
from nest.augment.recipe import model_input
from nest.training import devices
from nest.training.accumulation import mean_over_parts
from nest.training.gan_losses import (
    discriminator_loss,
    diversity,
    generator_loss,
    r1_penalty,
)

HALF = (0.5, 0.5, 0.5)  # mean and deviation that take [0, 1] to [-1, 1]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GanState:
    """Everything that training changes.

    Attributes:
      step: int32 (), finished steps.
      generator, discriminator: their parameters, float32.
      generator_opt_state, discriminator_opt_state: of their optimizers.
      ema: moving average of the generator's parameters, the one to sample with.
    """

    step: jax.Array
    generator: dict
    discriminator: dict
    generator_opt_state: Any
    discriminator_opt_state: Any
    ema: dict


@flax.struct.dataclass
class GanMetrics(clu.metrics.Collection):
    """Means over the steps between two log lines."""

    generator_loss: clu.metrics.Average.from_output("generator_loss")
    discriminator_loss: clu.metrics.Average.from_output("discriminator_loss")
    real_logit: clu.metrics.Average.from_output("real_logit")
    fake_logit: clu.metrics.Average.from_output("fake_logit")
    generator_grad_norm: clu.metrics.Average.from_output("generator_grad_norm")
    discriminator_grad_norm: clu.metrics.Average.from_output("discriminator_grad_norm")
    diversity: clu.metrics.Average.from_output("diversity")
    r1: clu.metrics.Average.from_output("r1")
    param_norm: clu.metrics.Average.from_output("param_norm")

    def means(self) -> dict[str, float]:
        """Return those that were computed: R1 is not in every step."""
        metrics = {
            name: metric
            for name, metric in vars(self).items()
            if isinstance(metric, clu.metrics.Average)
        }
        return {
            name: float(metric.compute())
            for name, metric in metrics.items()
            if metric.count > 0
        }


GanStep = Callable[[GanState, dict], tuple[GanState, GanMetrics]]


def init_gan_state(
    generator: dict,
    discriminator: dict,
    generator_optimizer: optax.GradientTransformation,
    discriminator_optimizer: optax.GradientTransformation,
) -> GanState:
    """Return the state before the first step."""
    return GanState(
        step=jnp.int32(0),
        generator=generator,
        discriminator=discriminator,
        generator_opt_state=generator_optimizer.init(generator),
        discriminator_opt_state=discriminator_optimizer.init(discriminator),
        ema=jax.tree.map(jnp.copy, generator),
    )


def make_gan_step(
    generator: nnx.GraphDef,
    discriminator: nnx.GraphDef,
    generator_optimizer: optax.GradientTransformation,
    discriminator_optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    noise_size: int,
    loss: str,
    r1_gamma: float,
    r1_every: int,
    augmentations: tuple[str, ...],
    flip: bool,
    ema_decay: float,
    accumulation_steps: int,
    seed: int,
) -> GanStep:
    """Build the jitted step over all devices.

    Args:
      generator, discriminator: graphs of the two modules.
      noise_size: of the generator.
      loss: one of `nest.training.gan_losses.LOSSES`.
      r1_gamma: r1_gamma / 2 * `r1_penalty` is added to the discriminator's loss; 0 is
        off.
      r1_every: steps from one penalty to the next, which is then multiplied by this
        number, so that its mean over steps is the same (lazy regularization,
        arXiv 1912.04958).
      augmentations: see `augment_differentiably`.
      flip: mirror half of the real images.
      ema_decay: of the generator's moving average, [0, 1); 0 follows the generator.
      accumulation_steps: the batch is worked off in so many parts; the gradients are
        the means over the whole batch.
      seed: all keys are derived from it and the state's step.

    Returns:
      A function of the state, which it consumes, and a global {"image"}, uint8. The
      metric "r1" is the mean over the steps that computed it.
    """
    sharded = partial(
        jax.lax.with_sharding_constraint, shardings=devices.batch_sharding(mesh)
    )

    def generate(params: dict, noise: jax.Array) -> jax.Array:
        return nnx.merge(generator, params)(noise)

    def discriminate(params: dict, images: jax.Array) -> jax.Array:
        return nnx.merge(discriminator, params)(images)

    def augment(images: jax.Array, key: jax.Array) -> jax.Array:
        return augment_differentiably(images, key, augmentations)

    @partial(jax.value_and_grad, has_aux=True)
    def discriminator_grads(
        params: dict,
        generator_params: dict,
        images: jax.Array,
        noise: jax.Array,
        key: jax.Array,
    ) -> tuple[jax.Array, dict]:
        real_key, fake_key = jax.random.split(key)
        fake = generate(generator_params, noise)
        real_logits = discriminate(params, augment(images, real_key))
        fake_logits = discriminate(params, augment(fake, fake_key))
        figures = {
            "real_logit": real_logits.mean(),
            "fake_logit": fake_logits.mean(),
            "diversity": diversity(fake, images),
        }
        return discriminator_loss(loss, real_logits, fake_logits), figures

    @jax.value_and_grad
    def r1_grads(params: dict, images: jax.Array, key: jax.Array) -> jax.Array:
        images = augment(images, jax.random.split(key)[0])
        return r1_penalty(partial(discriminate, params), images)

    @jax.value_and_grad
    def generator_grads(
        params: dict, discriminator_params: dict, noise: jax.Array, key: jax.Array
    ) -> jax.Array:
        images = augment(generate(params, noise), key)
        return generator_loss(loss, discriminate(discriminator_params, images))

    def draw(key: jax.Array, count: int) -> jax.Array:
        return sharded(jax.random.normal(key, (count, noise_size)))

    def train_discriminator(
        state: GanState, images: jax.Array, key: jax.Array
    ) -> tuple[dict, Any, dict]:
        noise_key, key = jax.random.split(key)
        params = state.discriminator
        (value, figures), grads = mean_over_parts(
            partial(discriminator_grads, params, state.generator),
            accumulation_steps,
            key,
            images,
            draw(noise_key, len(images)),
        )
        penalty, penalized = jnp.float32(0), jnp.int32(0)
        if r1_gamma:
            due = state.step % r1_every == 0

            def penalize() -> tuple[jax.Array, dict]:
                return mean_over_parts(
                    partial(r1_grads, params), accumulation_steps, key, images
                )

            def skip() -> tuple[jax.Array, dict]:
                return jnp.float32(0), jax.tree.map(jnp.zeros_like, params)

            penalty, penalty_grads = jax.lax.cond(due, penalize, skip)
            penalized = due.astype(jnp.int32)
            scale = r1_gamma / 2 * r1_every
            grads = jax.tree.map(lambda x, y: x + scale * y, grads, penalty_grads)
        updates, opt_state = discriminator_optimizer.update(
            grads, state.discriminator_opt_state, params
        )
        figures |= {
            "discriminator_loss": value,
            "discriminator_grad_norm": optax.tree.norm(grads),
            "r1": penalty,
            "penalized": penalized,
        }
        return optax.apply_updates(params, updates), opt_state, figures

    def train_generator(
        state: GanState, discriminator_params: dict, count: int, key: jax.Array
    ) -> tuple[dict, Any, dict]:
        noise_key, key = jax.random.split(key)
        params = state.generator
        value, grads = mean_over_parts(
            partial(generator_grads, params, discriminator_params),
            accumulation_steps,
            key,
            draw(noise_key, count),
        )
        updates, opt_state = generator_optimizer.update(
            grads, state.generator_opt_state, params
        )
        figures = {
            "generator_loss": value,
            "generator_grad_norm": optax.tree.norm(grads),
        }
        return optax.apply_updates(params, updates), opt_state, figures

    def step(state: GanState, batch: dict) -> tuple[GanState, GanMetrics]:
        # The parameters were drawn from the seed's own key.
        _, training_key = jax.random.split(jax.random.key(seed))
        key = jax.random.fold_in(training_key, state.step)
        flip_key, discriminator_key, generator_key = jax.random.split(key, 3)
        images = batch["image"]
        if flip:
            images = random_flip(images, flip_key)
        images = model_input(images, HALF, HALF)
        discriminator_params, discriminator_opt_state, figures = train_discriminator(
            state, images, discriminator_key
        )
        params, opt_state, more = train_generator(
            state, discriminator_params, len(images), generator_key
        )
        ema = optax.incremental_update(params, state.ema, 1 - ema_decay)
        figures |= more
        metrics = GanMetrics.single_from_model_output(
            **figures, param_norm=optax.tree.norm((params, discriminator_params))
        )
        metrics = metrics.replace(
            r1=clu.metrics.Average(figures["r1"], figures["penalized"])
        )
        state = GanState(
            state.step + 1,
            params,
            discriminator_params,
            opt_state,
            discriminator_opt_state,
            ema,
        )
        return state, metrics

    everywhere = devices.replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, devices.batch_sharding(mesh)),
        out_shardings=everywhere,
        donate_argnums=0,
    )
