"""nest.models.long_attention: every form gives what two whole products give."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nest.models import long_attention
from nest.models.generators import create_generator
from nest.models.layers import attend
from nest.models.long_attention import attend_fused, attend_in_slices
from nest.training.devices import batch_sharding, data_mesh


@pytest.fixture
def arrays() -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(key, (3, 2, 24, 4)) for key in keys]


@pytest.fixture
def short_slices(monkeypatch):
    """Three slices of 3 queries of each of the 6 heads, or what comes next below 5."""
    monkeypatch.setattr(long_attention, "LEAST", 1)
    monkeypatch.setattr(long_attention, "BYTES", {"cpu": 4 * 6 * 5 * 24})


# The rounding of sums of 24 products in another order.
CLOSE = dict(rtol=1e-5, atol=1e-6)


def test_slices_are_the_whole(arrays, short_slices):
    np.testing.assert_allclose(attend_in_slices(*arrays), attend(*arrays), **CLOSE)


def test_a_number_of_queries_that_slices_do_not_divide(arrays):
    np.testing.assert_allclose(attend_in_slices(*arrays), attend(*arrays), **CLOSE)


def test_a_batch_cut_across_devices_stays_where_it_is(
    arrays, short_slices, two_devices
):
    sharding = batch_sharding(data_mesh(two_devices))
    arrays = [jax.device_put(jnp.concatenate([x, x]), sharding) for x in arrays]
    compiled = jax.jit(attend_in_slices).lower(*arrays).compile()
    assert compiled.output_shardings.is_equivalent_to(sharding, 4)
    text = compiled.as_text()
    assert "while" in text and "all-gather" not in text and "all-reduce" not in text


def test_the_gradient_through_slices(arrays, short_slices):
    def gradients(function):
        total = lambda arrays: jnp.sin(function(*arrays)).sum()  # noqa: E731
        return jax.grad(total)(arrays)

    for sliced, whole in zip(
        gradients(attend_in_slices), gradients(attend), strict=True
    ):
        np.testing.assert_allclose(sliced, whole, **CLOSE)


def test_padding_for_the_fused_kernel_changes_nothing(arrays):
    fused = partial(attend_fused, implementation="xla")
    np.testing.assert_allclose(fused(*arrays), attend(*arrays), **CLOSE)


def test_a_generator_has_a_known_form_only():
    with pytest.raises(ValueError, match="no long_attention 'parts'; there are: whole"):
        create_generator("transgan_64", rngs=None, long_attention="parts")
