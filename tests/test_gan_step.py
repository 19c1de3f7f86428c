"""nest.training.gan_step: each player, the penalty, the average, the devices."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from nest.augment.recipe import model_input
from nest.models.discriminator import Discriminator
from nest.models.generator import Generator
from nest.training.devices import data_mesh
from nest.training.gan_losses import discriminator_loss, r1_penalty
from nest.training.gan_step import HALF, GanState, init_gan_state, make_gan_step

BATCH = {"image": np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8)}
DEFAULTS = dict(
    noise_size=3,
    loss="non_saturating",
    r1_gamma=0.0,
    r1_every=1,
    augmentations=(),
    flip=False,
    ema_decay=0.5,
    accumulation_steps=1,
    seed=0,
)


def build(**arguments) -> tuple:
    """A step of plain gradient descent, whose updates are the gradients."""
    step, state, graphs = _build(**arguments)
    return step, jax.tree.map(jnp.copy, state), graphs  # the step consumes it


@cache
def _build(
    learning_rates: tuple[float, float] = (0.1, 0.1), devices: int = 1, **overrides
) -> tuple:
    rngs = nnx.Rngs(0)
    generator = Generator(
        image_size=4,
        noise_size=3,
        layers=(1, 0),
        widths=(8, 4),
        heads=(2, 2),
        rngs=rngs,
    )
    discriminator = Discriminator(image_size=4, widths=(8,), rngs=rngs)
    graphs, params = zip(*map(nnx.split, (generator, discriminator)), strict=True)
    optimizers = [optax.sgd(lr) for lr in learning_rates]
    state = init_gan_state(*map(nnx.to_pure_dict, params), *optimizers)
    mesh = data_mesh(jax.devices()[:devices])
    step = make_gan_step(*graphs, *optimizers, mesh, **DEFAULTS | overrides)
    return step, state, graphs


def run(steps: int = 1, **arguments) -> tuple[GanState, list]:
    step, state, _ = build(**arguments)
    metrics = []
    for _ in range(steps):
        state, figures = step(state, BATCH)
        metrics.append(jax.device_get(figures).means())
    return jax.device_get(state), metrics


def changed(before: dict, after: dict) -> bool:
    same = jax.tree.map(lambda x, y: np.array_equal(x, y), before, after)
    return not all(jax.tree.leaves(same))


@pytest.mark.parametrize("loss", ["non_saturating", "hinge"])
def test_each_player_moves_its_own_parameters_only(loss):
    _, start, _ = build()
    start = jax.device_get(start)
    after, _ = run(learning_rates=(0.0, 0.1), loss=loss)
    assert not changed(start.generator, after.generator)
    assert changed(start.discriminator, after.discriminator)
    after, _ = run(learning_rates=(0.1, 0.0), loss=loss)
    assert changed(start.generator, after.generator)
    assert not changed(start.discriminator, after.discriminator)


def test_the_generator_learns_against_the_discriminator_of_this_step():
    """And fools it a little better: from noise that neither has seen."""
    step, state, (generator, discriminator) = build(learning_rates=(0.05, 0.01))
    before = jax.device_get(state)
    after = jax.device_get(step(state, BATCH)[0])
    noise = jax.random.normal(jax.random.key(7), (256, 3))

    @jax.jit
    def logit(params: dict, state: GanState) -> jax.Array:
        images = nnx.merge(generator, params)(noise)
        return nnx.merge(discriminator, state.discriminator)(images).mean()

    assert logit(after.generator, after) > logit(before.generator, after) + 1e-4


def test_the_discriminators_update_is_the_gradient_of_its_loss_and_lazy_r1():
    """Of every third step, three times: against the gradient computed by itself."""
    gamma, every = 2.0, 3
    _, metrics = run(
        steps=4, learning_rates=(0.0, 1e-3), r1_gamma=gamma, r1_every=every
    )
    assert ["r1" in row for row in metrics] == [True, False, False, True]

    # After one step the two differ by the penalty's gradient and nothing else.
    _, state, (_, discriminator) = build()
    params = jax.device_get(state.discriminator)
    images = model_input(BATCH["image"], HALF, HALF)

    def penalty(params: dict) -> jax.Array:
        return r1_penalty(lambda x: nnx.merge(discriminator, params)(x), images)

    value, gradients = jax.jit(jax.value_and_grad(penalty))(params)
    assert metrics[0]["r1"] == pytest.approx(float(value), rel=1e-4)
    (one, _), (other, _) = (
        run(learning_rates=(0.0, 1e-3), r1_gamma=weight, r1_every=every)
        for weight in (gamma, 0.0)
    )
    moved = jax.tree.map(
        lambda x, y: x - y, other.discriminator, one.discriminator
    )  # lr * gamma / 2 * every * gradient
    expected = jax.tree.map(lambda x: 1e-3 * gamma / 2 * every * x, gradients)
    # The difference of two float32 parameters of size 1 is known to about 1e-7.
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=5e-7), moved, expected
    )
    largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected))
    assert largest > 1e-4


def test_the_first_loss_is_the_formula():
    _, state, (generator, discriminator) = build()
    state = jax.device_get(state)
    _, (figures, *_) = run()
    images = model_input(BATCH["image"], HALF, HALF)
    real = nnx.merge(discriminator, state.discriminator)(images)
    assert figures["real_logit"] == pytest.approx(float(real.mean()), rel=1e-4)
    # Fresh generators answer nearly the same to all noise, so its draw is not needed.
    fake = nnx.merge(generator, state.generator)(
        jax.random.normal(jax.random.key(1), (8, 3))
    )
    logits = nnx.merge(discriminator, state.discriminator)(fake)
    expected = discriminator_loss("non_saturating", real, logits)
    assert figures["discriminator_loss"] == pytest.approx(float(expected), abs=0.02)


def test_the_average_in_closed_form():
    """ema_n = d^n p_0 + (1 - d) sum_k d^(n - k) p_k."""
    step, state, _ = build(ema_decay=0.75)
    history = [jax.device_get(state.generator)]
    for _ in range(5):
        state, _ = step(state, BATCH)
        history.append(jax.device_get(state.generator))
    weights = [0.75**5] + [0.25 * 0.75 ** (5 - k) for k in range(1, 6)]
    expected = jax.tree.map(
        lambda *params: sum(w * p for w, p in zip(weights, params, strict=True)),
        *history,
    )
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
        jax.device_get(state.ema),
        expected,
    )
    state, _ = run(ema_decay=0.0)
    jax.tree.map(np.testing.assert_array_equal, state.ema, state.generator)


@pytest.mark.parametrize(
    "overrides",
    [
        dict(r1_gamma=1.0),
        dict(r1_gamma=1.0, augmentations=("color", "translation", "cutout"), flip=True),
    ],
)
def test_two_devices_train_as_one(overrides):
    one, first = run(steps=3, **overrides)
    two, second = run(steps=3, devices=2, **overrides)
    # Sums in another order; float32.
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-5), one, two)
    for x, y in zip(first, second, strict=True):
        assert x == pytest.approx(y, rel=1e-3, abs=1e-4)


def test_accumulation_is_the_same_step():
    """Noise and images are drawn for the whole batch; the groups of four are the same
    in another order, so the deviation channel is switched off by a batch of copies."""
    batch = {"image": np.repeat(BATCH["image"][:1], 8, axis=0)}
    states = []
    for parts in (1, 2):
        step, state, _ = build(
            learning_rates=(0.0, 0.1), r1_gamma=1.0, accumulation_steps=parts
        )
        states.append(jax.device_get(step(state, batch)[0]))
    kernels = [state.discriminator["head"]["kernel"] for state in states]
    # The generated half sees other neighbours: nearly the same.
    np.testing.assert_allclose(*kernels, atol=2e-3)


def test_steps_draw_anew_and_depend_on_the_seed():
    _, metrics = run(steps=2, learning_rates=(0.0, 0.0))
    assert metrics[0]["generator_loss"] != metrics[1]["generator_loss"]
    _, other = run(learning_rates=(0.0, 0.0), seed=1)
    assert metrics[0]["generator_loss"] != other[0]["generator_loss"]


def test_the_state_counts_steps():
    state, _ = run(steps=2)
    assert dataclasses.asdict(state)["step"] == 2
