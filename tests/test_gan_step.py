"""nest.training.gan_step: each player, the penalty, the average, the devices."""

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from nest.augment.differentiable import augment_differentiably
from nest.augment.geometric import random_flip
from nest.augment.recipe import model_input
from nest.models.discriminator import Discriminator
from nest.models.generator import Generator
from nest.training.devices import data_mesh, replicated
from nest.training.gan_losses import discriminator_loss, generator_loss, r1_penalty
from nest.training.gan_step import HALF, GanState, init_gan_state, make_gan_step

BATCH = {"image": np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8)}
PLAIN = dict(
    noise_size=3,
    loss="hinge",
    r1_gamma=0.0,
    r1_every=3,
    augmentations=(),
    flip=False,
    ema_decay=0.75,
    accumulation_steps=1,
    seed=0,
)
FULL = PLAIN | dict(
    loss="non_saturating",
    r1_gamma=2.0,
    augmentations=("color", "translation", "cutout"),
    flip=True,
)
PENALIZED = PLAIN | dict(r1_gamma=2.0)


def build(
    settings: dict, *, devices: int = 1, dtype: jnp.dtype = jnp.float32
) -> tuple[Callable, GanState, tuple]:
    """A step of plain gradient descent, whose updates are the gradients."""
    step, state, graphs = _build(devices, dtype, tuple(settings.items()))
    return step, jax.tree.map(jnp.copy, state), graphs  # the step consumes it


@cache
def _build(devices: int, dtype: jnp.dtype, settings: tuple) -> tuple:
    rngs = nnx.Rngs(0)
    generator = Generator(
        image_size=4,
        noise_size=3,
        layers=(1, 0),
        widths=(8, 4),
        heads=(2, 2),
        dtype=dtype,
        rngs=rngs,
    )
    discriminator = Discriminator(image_size=4, widths=(8,), dtype=dtype, rngs=rngs)
    graphs, params = zip(*map(nnx.split, (generator, discriminator)), strict=True)
    # The learning rate is part of the state, so that one compiled step serves all.
    optimizers = [optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)] * 2
    state = init_gan_state(*map(nnx.to_pure_dict, params), *optimizers)
    mesh = data_mesh(jax.devices()[:devices])
    step = make_gan_step(*graphs, *optimizers, mesh, **dict(settings))
    return step, jax.device_put(state, replicated(mesh)), graphs


def run(
    settings: dict,
    steps: int = 1,
    *,
    lr: tuple[float, float] = (0.1, 0.1),
    devices: int = 1,
    dtype: jnp.dtype = jnp.float32,
) -> tuple[GanState, list[dict[str, float]]]:
    """Train from the start; `lr` is the generator's and the discriminator's."""
    step, state, _ = build(settings, devices=devices, dtype=dtype)
    optimizers = state.generator_opt_state, state.discriminator_opt_state
    for opt_state, value in zip(optimizers, lr, strict=True):
        old = opt_state.hyperparams["learning_rate"]
        opt_state.hyperparams["learning_rate"] = jnp.full_like(old, value)
    metrics = []
    for _ in range(steps):
        state, figures = step(state, BATCH)
        metrics.append(jax.device_get(figures).means())
    return jax.device_get(state), metrics


def changed(before: dict, after: dict) -> bool:
    same = jax.tree.map(lambda x, y: np.array_equal(x, y), before, after)
    return not all(jax.tree.leaves(same))


@pytest.mark.parametrize("settings", [PLAIN, FULL], ids=["plain", "full"])
def test_each_player_moves_its_own_parameters_only(settings):
    _, start, _ = build(settings)
    after, _ = run(settings, lr=(0.0, 0.1))
    assert not changed(start.generator, after.generator)
    assert changed(start.discriminator, after.discriminator)
    after, _ = run(settings, lr=(0.1, 0.0))
    assert changed(start.generator, after.generator)
    assert not changed(start.discriminator, after.discriminator)


def test_the_generator_learns_to_raise_its_logit():
    """On noise that it has not seen, against the discriminator of the same step."""
    before, _ = run(PLAIN, lr=(0.0, 0.01))
    after, _ = run(PLAIN, lr=(1e-3, 0.01))
    _, _, (generator, discriminator) = build(PLAIN)
    noise = jax.random.normal(jax.random.key(7), (256, 3))

    @jax.jit
    def logit(state: GanState) -> jax.Array:
        images = nnx.merge(generator, state.generator)(noise)
        return nnx.merge(discriminator, state.discriminator)(images).mean()

    assert not changed(before.discriminator, after.discriminator)
    assert logit(after) > logit(before) + 1e-5  # rounding is 1e-8


def test_the_penalty_comes_every_third_step_three_times():
    _, metrics = run(PENALIZED, 4, lr=(0.0, 1e-3))
    assert ["r1" in row for row in metrics] == [True, False, False, True]

    # After one step the two differ by the penalty's gradient and nothing else.
    _, state, (_, discriminator) = build(PENALIZED)
    images = model_input(BATCH["image"], HALF, HALF)

    def penalty(params: dict) -> jax.Array:
        return r1_penalty(lambda x: nnx.merge(discriminator, params)(x), images)

    value, gradients = jax.jit(jax.value_and_grad(penalty))(state.discriminator)
    assert metrics[0]["r1"] == pytest.approx(float(value), rel=1e-4)
    (one, _), (other, _) = (run(x, lr=(0.0, 1e-3)) for x in (PENALIZED, PLAIN))
    moved = jax.tree.map(lambda x, y: x - y, other.discriminator, one.discriminator)
    expected = jax.tree.map(lambda x: 1e-3 * 2.0 / 2 * 3 * x, gradients)
    # The difference of two float32 parameters of size 1 is known to about 1e-7.
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=5e-7)
    jax.tree.map(close, moved, expected)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected)) > 1e-4


def test_figures_of_a_step_by_hand():
    """Flip, augmentation, noise and keys: each player's figures, worked out again."""
    _, state, (generator, discriminator) = build(FULL)
    _, (figures,) = run(FULL, lr=(0.0, 0.0))
    _, training_key = jax.random.split(jax.random.key(0))
    flip, first, second = jax.random.split(jax.random.fold_in(training_key, 0), 3)

    @jax.jit
    def logits(images: jax.Array, key: jax.Array) -> jax.Array:
        images = augment_differentiably(images, key, FULL["augmentations"])
        return nnx.merge(discriminator, state.discriminator)(images)

    def generate(key: jax.Array) -> jax.Array:
        noise = jax.random.normal(key, (8, 3))
        return nnx.merge(generator, state.generator)(noise)

    noise_key, key = jax.random.split(first)
    real_key, fake_key = jax.random.split(key)
    images = model_input(random_flip(BATCH["image"], flip), HALF, HALF)
    real, fake = logits(images, real_key), logits(generate(noise_key), fake_key)
    noise_key, key = jax.random.split(second)
    fooled = logits(generate(noise_key), key)
    expected = {
        "real_logit": real.mean(),
        "fake_logit": fake.mean(),
        "discriminator_loss": discriminator_loss("non_saturating", real, fake),
        "generator_loss": generator_loss("non_saturating", fooled),
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(float(value), rel=1e-4, abs=1e-5), name


def test_bfloat16_with_accumulation_trains_nearly_as_float32():
    settings = FULL | dict(accumulation_steps=2)
    state, rows = run(settings, 2, dtype=jnp.bfloat16)
    assert {x.dtype for x in jax.tree.leaves(state.generator)} == {np.dtype("float32")}
    _, expected = run(FULL, 2)
    assert rows[0]["r1"] == pytest.approx(expected[0]["r1"], rel=0.2)  # other groups
    for row in rows:
        assert all(map(np.isfinite, row.values()))


def test_the_average_in_closed_form():
    """ema_n = d^n p_0 + (1 - d) sum_k d^(n - k) p_k."""
    step, state, _ = build(PLAIN)
    history = [jax.device_get(state.generator)]
    for _ in range(5):
        state, _ = step(state, BATCH)
        history.append(jax.device_get(state.generator))
    weights = [0.75**5] + [0.25 * 0.75 ** (5 - k) for k in range(1, 6)]
    expected = jax.tree.map(
        lambda *params: sum(w * p for w, p in zip(weights, params, strict=True)),
        *history,
    )
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, jax.device_get(state.ema), expected)


def test_two_devices_train_as_one():
    one, first = run(FULL, 4)
    two, second = run(FULL, 4, devices=2)
    # Sums in another order; float32.
    close = partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-5)
    jax.tree.map(close, one, two)
    for x, y in zip(first, second, strict=True):
        assert x == pytest.approx(y, rel=1e-3, abs=1e-4)


def test_accumulation_is_the_same_step():
    """On a generator that does not see its noise, and images of which the two parts
    make up the same groups of four as the two halves of the batch."""
    images = np.random.default_rng(1).integers(0, 256, (6, 4, 4, 3), np.uint8)
    batch = {"image": images[[0, 1, 2, 3, 1, 4, 3, 5]]}
    states = []
    for parts in (1, 2):
        step, state, _ = build(PENALIZED | dict(accumulation_steps=parts))
        embedding = state.generator["noise_embedding"]
        embedding["kernel"] = jnp.zeros_like(embedding["kernel"])
        states.append(jax.device_get(step(state, batch)[0]))
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, *states)


def test_every_step_draws_anew():
    state, metrics = run(FULL, 2, lr=(0.0, 0.0))
    assert state.step == 2
    assert metrics[0]["generator_loss"] != metrics[1]["generator_loss"]
