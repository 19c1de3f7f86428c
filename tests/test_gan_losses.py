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


def test_r1_and_its_gradient_against_finite_differences():
    with jax.enable_x64(True):
        graphdef, params = nnx.split(
            Discriminator(
                image_size=4, widths=(4, 4), dtype=jnp.float64, rngs=nnx.Rngs(0)
            )
        )
        params = jax.tree.map(lambda x: x.astype(jnp.float64), params)
        images = jax.random.normal(jax.random.key(0), (4, 4, 4, 3), jnp.float64)

        @jax.jit
        def logits(params, images):
            return nnx.merge(graphdef, params)(images)

        def penalty(params):
            return r1_penalty(lambda x: logits(params, x), images)

        # The penalty: every pixel of every image moved by itself. The logits are
        # float32, so the step is large.
        step, total = 1e-2, 0.0
        for index in np.ndindex(4, 4, 4, 3):
            moved = jnp.zeros_like(images).at[index].set(step)
            difference = logits(params, images + moved) - logits(params, images - moved)
            total += float(difference.sum() / (2 * step)) ** 2
        assert penalty(params) == pytest.approx(total / 4, rel=1e-2)

        # Its gradient, in a random direction.
        keys = iter(jax.random.split(jax.random.key(1), 100))
        direction = jax.tree.map(
            lambda x: jax.random.normal(next(keys), x.shape, x.dtype), params
        )

        def along(size: float) -> jax.Array:
            return penalty(jax.tree.map(lambda x, y: x + size * y, params, direction))

        slope = (along(1e-3) - along(-1e-3)) / 2e-3
        gradients = jax.grad(penalty)(params)
        products = jax.tree.map(lambda x, y: (x * y).sum(), gradients, direction)
        assert sum(jax.tree.leaves(products)) == pytest.approx(float(slope), rel=1e-2)


def test_diversity_of_copies_is_zero_and_of_the_same_images_one():
    real = jax.random.normal(jax.random.key(0), (6, 4, 4, 3))
    assert diversity(jnp.broadcast_to(real[:1], real.shape), real) == 0
    assert diversity(real[::-1], real) == pytest.approx(1, rel=1e-5)
    assert diversity(real / 2, real) == pytest.approx(0.5, rel=1e-5)
