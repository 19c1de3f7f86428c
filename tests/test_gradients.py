"""nest.explain.gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import jitted

from nest.explain.gradients import level_gradients
from nest.models.classifier import NesT

CLASSES = jnp.array([[0, 3], [1, 1], [4, 2]])


def test_outputs_and_logits_are_the_model_s(small_model, small_images):
    logits, outputs, _ = jitted(level_gradients, small_model, small_images, CLASSES)
    features = jitted(NesT.features, small_model, small_images)
    np.testing.assert_allclose(
        logits, jitted(NesT.__call__, small_model, small_images), atol=1e-5
    )
    for output, feature in zip(outputs, features, strict=False):
        np.testing.assert_allclose(output, feature, atol=1e-5)
    np.testing.assert_allclose(outputs[3], small_model.norm(features[2]), atol=1e-5)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_gradients_are_those_of_what_is_above(small_model, small_images, level):
    def one_by_one(model: NesT, x: jax.Array) -> jax.Array:
        def logit(x: jax.Array, b: int, k: int) -> jax.Array:
            for each in list(model.levels)[level + 1 :]:
                x = each(x)
            return model.classify(x)[b, CLASSES[b, k]]

        rows = [
            [jax.grad(logit)(x, b, k)[b] for b in range(len(x))]
            for k in range(CLASSES.shape[1])
        ]
        return jnp.array(rows)

    _, outputs, gradients = jitted(level_gradients, small_model, small_images, CLASSES)
    expected = jitted(one_by_one, small_model, outputs[level])
    largest = np.abs(expected).max()
    np.testing.assert_allclose(gradients[level], expected, atol=1e-5 * largest)


def test_a_higher_lowest_level_leaves_the_rest_as_it_is(small_model, small_images):
    whole = jitted(level_gradients, small_model, small_images, CLASSES)
    short = jitted(
        partial(level_gradients, lowest=1), small_model, small_images, CLASSES
    )
    for all_levels, part in zip(whole[1:], short[1:], strict=True):
        assert len(part) == 3
        for left, right in zip(all_levels[1:], part, strict=True):
            np.testing.assert_allclose(left, right, atol=1e-5)
