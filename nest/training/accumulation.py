"""Gradient accumulation: a batch worked off in parts, one after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def mean_over_parts(
    function: Callable[..., Any], parts: int, key: jax.Array, *arrays: jax.Array
) -> Any:
    """Average function(*part of each array, key of the part) over the parts.

    Args:
      function: returns a pytree of arrays, means over the rows that it is given.
      parts: into how many the arrays are cut; 1 calls the function with all and `key`.
      arrays: (B, ...), with B a multiple of `parts` on every device.
    """
    if parts == 1:
        return function(*arrays, key)

    # Part i takes rows i, i + k, i + 2k, ...: an equal share of every device's.
    def split(x: jax.Array) -> jax.Array:
        return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)

    def add(total: Any, part: tuple) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(*part)), None

    cut = (*map(split, arrays), jax.random.split(key, parts))
    like = jax.eval_shape(function, *(x[0] for x in cut))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    total, _ = jax.lax.scan(add, zeros, cut)
    return jax.tree.map(lambda x: x / parts, total)
