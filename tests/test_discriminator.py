"""nest.models.discriminator against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import jitted
from flax import nnx
from scipy.signal import convolve2d

from nest.models.discriminator import (
    Discriminator,
    EqualizedConv,
    halve,
    leaky_relu,
    minibatch_standard_deviation,
)


def test_halving_is_a_binomial_blur():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 6, 3)).astype(np.float32)
    kernel = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    y = halve(jnp.asarray(x))
    assert y.shape == (2, 3, 3, 3)
    for c in range(3):
        full = convolve2d(np.pad(x[0, :, :, c], 1), kernel, mode="valid")
        np.testing.assert_allclose(y[0, :, :, c], full[::2, ::2], atol=1e-6)


def test_deviation_of_groups_of_four():
    x = np.random.default_rng(0).normal(size=(8, 2, 2, 3)).astype(np.float32)
    x[4:] = x[4]  # the second group repeats itself
    y = np.asarray(minibatch_standard_deviation(jnp.asarray(x)))
    np.testing.assert_array_equal(y[..., :3], x)
    expected = x[:4].std(axis=0).mean()
    np.testing.assert_allclose(y[:4, ..., 3], expected, rtol=1e-5)
    # 1e-4 is the square root of what keeps its gradient finite.
    np.testing.assert_allclose(y[4:, ..., 3], 1e-4, rtol=1e-3)


def test_scaled_convolution_keeps_the_second_moment():
    conv = EqualizedConv(64, 64, size=3, dtype=jnp.float32, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (4, 16, 16, 64))
    inner = conv(x)[:, 1:-1, 1:-1]  # the border has zeros beside it
    assert abs(jnp.square(inner).mean() - 1) < 0.1  # 64 kernels drawn once
    # A leaky ReLU of slope 0.2 keeps (1 + 0.04) / 2 of a normal's second moment.
    assert abs(jnp.square(leaky_relu(x)).mean() - 1.04) < 0.05


def test_logits_are_one_per_image_and_alike_in_any_company():
    """Rows of other groups of four do not matter."""
    model = Discriminator(image_size=8, widths=(8, 8), rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (8, 8, 8, 3))
    logits = jitted(lambda model, x: model(x), model, images)
    assert logits.shape == (8,) and logits.dtype == jnp.float32
    first = jitted(lambda model, x: model(x), model, images[:4])
    np.testing.assert_allclose(logits[:4], first, atol=1e-5)


@pytest.mark.parametrize("widths", [(8, 8, 8, 8), (), (0, 8)])
def test_what_does_not_fit_is_named(widths):
    with pytest.raises(ValueError, match=r"widths"):
        Discriminator(image_size=8, widths=widths, rngs=nnx.Rngs(0))
