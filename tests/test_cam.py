"""nest.explain.cam."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from conftest import jitted

from nest.explain.cam import cam, grad_cam, hires_cam
from nest.models.classifier import NesT

CLASSES = jnp.array([[0, 3], [1, 1], [4, 2]])


def test_a_map_averages_to_its_logit(small_model, small_images):
    maps = jitted(cam, small_model, small_images, CLASSES)
    logits = jitted(NesT.__call__, small_model, small_images)
    logits = jnp.take_along_axis(logits, CLASSES, axis=1)
    bias = small_model.head.bias[...][CLASSES]
    np.testing.assert_allclose(maps.mean(axis=(2, 3)) + bias, logits, atol=1e-5)


def test_the_cams_differ_in_where_the_gradient_is_averaged(small_model, small_images):
    """Their definitions, from finite differences along each channel and at a token."""
    below = jitted(NesT.features, small_model, small_images)[1]
    maps = jitted(partial(grad_cam, level=1), small_model, small_images, CLASSES)
    whole = jitted(partial(hires_cam, level=1), small_model, small_images, CLASSES)
    assert maps.shape == whole.shape == (3, 2, 8, 8)

    step, channels = 1e-3, below.shape[-1]
    changes = np.zeros((channels + 1, 8, 8, channels), np.float32)
    for channel in range(channels):
        changes[channel, :, :, channel] = step
    changes[-1, 2, 5] = step * below[0, 2, 5]

    def logits(model: NesT, x: jax.Array) -> jax.Array:
        return model.classify(model.levels[2](x))[:, CLASSES[0, 1]]

    above, under = (
        jitted(logits, small_model, below[0] + sign * changes) for sign in (1, -1)
    )
    slopes = (above - under) / (2 * step)
    expected = (below[0] * slopes[:-1] / 64).sum(axis=-1)
    # Differences of float32 logits of some 1e-6 over a step of 2e-3.
    np.testing.assert_allclose(maps[0, 1], expected, atol=5e-3)
    np.testing.assert_allclose(whole[0, 1, 2, 5], slopes[-1], atol=5e-3)
