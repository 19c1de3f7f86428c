"""A checksum of arrays: two states with the same one hold the same bits."""

from typing import Any

import jax
import jax.numpy as jnp

from nest.training import hosts


@jax.jit
def checksum(state: Any) -> jax.Array:
    """Sum the bits of all arrays as integers modulo 2**32."""
    total = jnp.uint32(0)
    for array in jax.tree.leaves(state):
        bits = jax.lax.bitcast_convert_type(array, f"uint{8 * array.dtype.itemsize}")
        total += bits.astype(jnp.uint32).sum(dtype=jnp.uint32)
    return total


def agree_on_parameters(params: Any) -> None:
    """Raise UserError on every process unless all hold the same; all must call."""
    if jax.process_count() > 1:  # Nothing to compile for where nobody compares.
        hosts.agree({"the checksum of the parameters": int(checksum(params))})
