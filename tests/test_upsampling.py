"""nest.models.upsampling against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nest.models.upsampling import UPSAMPLINGS, Upsampling, nearest, pixel_shuffle


def test_pixel_shuffle_puts_channels_into_squares():
    x = np.arange(2 * 3 * 3 * 8).reshape(2, 3, 3, 8)
    y = np.asarray(pixel_shuffle(jnp.asarray(x)))
    assert y.shape == (2, 6, 6, 2)
    for row in range(6):
        for column in range(6):
            for c in range(2):
                channel = 4 * c + 2 * (row % 2) + column % 2
                np.testing.assert_array_equal(
                    y[:, row, column, c], x[:, row // 2, column // 2, channel]
                )


def test_nearest_repeats():
    x = np.random.default_rng(0).normal(size=(1, 2, 2, 3))
    expected = np.kron(x[0].transpose(2, 0, 1), np.ones((2, 2))).transpose(1, 2, 0)
    np.testing.assert_allclose(nearest(jnp.asarray(x))[0], expected, rtol=1e-6)


@pytest.mark.parametrize("kind", UPSAMPLINGS)
@pytest.mark.parametrize("widths", [(16, 4), (6, 5)])
def test_every_kind_doubles_the_side(kind, widths):
    upsample = Upsampling(*widths, kind=kind, rngs=nnx.Rngs(0))
    x = jnp.ones((2, 4, 4, widths[0]))
    assert upsample(x).shape == (2, 8, 8, widths[1])


def test_pixel_shuffle_of_a_quarter_of_the_width_has_no_parameters():
    upsample = Upsampling(16, 4, kind="pixel_shuffle", rngs=nnx.Rngs(0))
    assert not jax.tree.leaves(nnx.state(upsample, nnx.Param))
