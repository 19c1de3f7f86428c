"""nest.training.gan_losses against closed forms and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nest.models.discriminator import Discriminator
from nest.training.gan_losses import (
    discriminator_loss,
    diversity,
    generator_loss,
    r1_penalty,
)

REAL = np.array([-2.0, 0.5, 3.0])
FAKE = np.array([-3.0, 0.1, 1.5])


def test_non_saturating_loss_is_cross_entropy():
    def log_sigmoid(x: np.ndarray) -> np.ndarray:
        return -np.log1p(np.exp(-x))

    expected = -(log_sigmoid(REAL) + log_sigmoid(-FAKE)).mean()
    found = discriminator_loss("non_saturating", jnp.array(REAL), jnp.array(FAKE))
    assert found == pytest.approx(expected, rel=1e-6)
    found = generator_loss("non_saturating", jnp.array(FAKE))
    assert found == pytest.approx(-log_sigmoid(FAKE).mean(), rel=1e-6)


def test_hinge_loss():
    expected = ((3 + 0.5 + 0) + (0 + 1.1 + 2.5)) / 3
    assert discriminator_loss("hinge", REAL, FAKE) == pytest.approx(expected, rel=1e-6)
    assert generator_loss("hinge", FAKE) == pytest.approx(-FAKE.mean(), rel=1e-6)


def test_r1_of_a_linear_discriminator_is_the_norm_of_its_weights():
    weights = np.random.default_rng(0).normal(size=(4, 4, 3))
    images = np.random.default_rng(1).normal(size=(5, 4, 4, 3))
    found = r1_penalty(lambda x: (x * weights).sum(axis=(1, 2, 3)), jnp.array(images))
    assert found == pytest.approx((weights**2).sum(), rel=1e-5)


def test_r1_of_the_discriminator_against_finite_differences():
    """Every pixel of every image moved by itself."""
    model = Discriminator(image_size=4, widths=(4, 4), rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(model)
    images = jax.random.normal(jax.random.key(0), (4, 4, 4, 3))

    @jax.jit
    def logits(images: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params)(images)

    step, total = 1e-2, 0.0  # large, since the logits are float32
    for index in np.ndindex(images.shape):
        moved = jnp.zeros_like(images).at[index].set(step)
        difference = logits(images + moved) - logits(images - moved)
        total += float(difference.sum() / (2 * step)) ** 2
    assert r1_penalty(logits, images) == pytest.approx(total / 4, rel=1e-2)


def test_the_gradient_of_r1_against_finite_differences():
    """Of a smooth discriminator: that of ReLUs has a step at every kink."""
    keys = jax.random.split(jax.random.key(0), 4)
    images = jax.random.normal(keys[0], (4, 3, 3, 2))
    params = [jax.random.normal(key, (18, 5)) for key in keys[1:3]]
    direction = [jax.random.normal(key, (18, 5)) for key in jax.random.split(keys[3])]

    @jax.jit
    @jax.value_and_grad
    def penalty(params: list[jax.Array]) -> jax.Array:
        def logits(images: jax.Array) -> jax.Array:
            x = images.reshape(len(images), -1)
            return (jnp.tanh(x @ params[0] / 4) @ params[1].T).sum(axis=1)

        return r1_penalty(logits, images)

    def along(size: float) -> float:
        moved = [x + size * y for x, y in zip(params, direction, strict=True)]
        return float(penalty(moved)[0])

    slope = (along(1e-2) - along(-1e-2)) / 2e-2
    gradients = penalty(params)[1]
    products = [(x * y).sum() for x, y in zip(gradients, direction, strict=True)]
    assert float(sum(products)) == pytest.approx(slope, rel=1e-2)


def test_diversity_of_copies_is_zero_and_of_the_same_images_one():
    real = jax.random.normal(jax.random.key(0), (6, 4, 4, 3))
    copies = jnp.broadcast_to(real[:1], real.shape)
    assert diversity(copies, real) < 1e-6  # the rounding of a mean
    assert diversity(real[::-1], real) == pytest.approx(1, rel=1e-5)
    assert diversity(real / 2, real) == pytest.approx(0.5, rel=1e-5)
