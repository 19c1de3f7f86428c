"""Attention over many tokens without all of its weights in memory at once.

For the full-attention generator that the paper compares with: among the 64x64 tokens of
its last level, one head of one image has 16.8 million weights.
"""

import math

import jax
import jax.numpy as jnp

from nest.models.layers import attend

LEAST = 16  # queries of a slice
# Of the weights worked on at a time: what lies in a cache, or what fills a GPU.
BYTES = {"cpu": 2**22}
BYTES_ELSEWHERE = 2**30


def attend_in_slices(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Do what `attend` does, a slice of the queries after the other.

    The backward pass computes the weights again instead of storing them. The leading
    axes stay whole, so that a batch cut across devices stays where it is.

    Args:
      query: (..., M, D).
      key, value: (..., N, D).

    Returns:
      (..., M, D) in the type of `value`.
    """
    *lead, rows, width = query.shape
    limit = BYTES.get(jax.default_backend(), BYTES_ELSEWHERE)
    most = max(LEAST, limit // (4 * math.prod(lead) * key.shape[-2]))
    size = rows
    while size > most and size % 2 == 0:
        size //= 2
    slices = jnp.moveaxis(query.reshape(*lead, -1, size, width), -3, 0)
    attended = jax.lax.map(jax.checkpoint(lambda x: attend(x, key, value)), slices)
    return jnp.moveaxis(attended, 0, -3).reshape(query.shape)


def attend_fused(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    implementation: str = "cudnn",
) -> jax.Array:
    """Do what `attend` does by one fused kernel.

    Args:
      query: (B, H, M, D).
      key, value: (B, H, N, D).
      implementation: of `jax.nn.dot_product_attention`; "cudnn" needs an NVIDIA GPU and
        half precision.

    Returns:
      (B, H, M, D) in the type of `value`.
    """
    width = query.shape[-1]
    border = [(0, 0)] * 3 + [(0, -width % 8)]  # cuDNN takes multiples of 8
    attended = jax.nn.dot_product_attention(
        *(jnp.pad(x, border).swapaxes(1, 2) for x in (query, key, value)),
        scale=width**-0.5,
        implementation=implementation,
    )
    return attended.swapaxes(1, 2)[..., :width].astype(value.dtype)


LONG_ATTENTION = {
    "whole": attend,
    "slices": attend_in_slices,
    "cudnn": attend_fused,
}
LONG = 1024  # tokens in a block from which on these matter
