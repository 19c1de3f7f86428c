"""nest.explain.input_gradient."""

import jax.numpy as jnp
import numpy as np
from conftest import jitted

from nest.explain.input_gradient import input_gradient, input_times_gradient
from nest.models.classifier import NesT

CLASSES = jnp.array([[0, 3], [1, 1], [4, 2]])


def test_they_are_slopes_of_the_logit(small_model, small_images):
    steep = jitted(input_gradient, small_model, small_images, CLASSES)
    signed = jitted(input_times_gradient, small_model, small_images, CLASSES)
    assert steep.shape == signed.shape == (3, 2, 16, 16)
    step = 1e-3
    changes = np.zeros((3, 16, 16, 3), np.float32)
    changes[range(3), 7, 9, range(3)] = step
    above, below = (
        jitted(NesT.__call__, small_model, small_images[1] + sign * changes)[:, 1]
        for sign in (1, -1)
    )
    slopes = np.asarray(above - below) / (2 * step)
    # Differences of float32 logits of some 1e-6 over a step of 2e-3.
    np.testing.assert_allclose(steep[1, 0, 7, 9], np.abs(slopes).max(), atol=5e-3)
    expected = (slopes * small_images[1, 7, 9]).sum()
    np.testing.assert_allclose(signed[1, 0, 7, 9], expected, atol=1e-2)
