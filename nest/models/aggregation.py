"""Block aggregation: four neighbouring blocks become one (paper, section 3.1).

Every aggregation maps an image plane (B, H, W, C) to (B, H/2, W/2, C'), H and W even.
The published one is `conv_max_pool`; the others are the paper's ablation.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from nest.models.layers import LayerNorm, Linear, blockify, initializer, unblockify

AGGREGATIONS = (
    "conv_max_pool",  # 3x3 convolution, LayerNorm, 3x3 max-pool stride 2 (published)
    "conv_avg_pool",  # the same with an average pool
    "conv_stride_2",  # 3x3 convolution of stride 2, LayerNorm
    "patch_merging",  # 2x2 tokens side by side, LayerNorm, linear (Swin)
    "max_pool",  # no convolution: a linear map to the next width, LayerNorm, max-pool
    "block_plane",  # conv_max_pool inside each block: nothing crosses its border
)


def _pool_axis(x: jax.Array, axis: int, fill: float, reduce) -> jax.Array:
    """Reduce windows of 3, stride 2, SAME (one `fill` after the end) along an axis."""
    pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    first, second = (jax.lax.index_in_dim(pairs, i, axis + 1, False) for i in (0, 1))
    end = jnp.full_like(jax.lax.slice_in_dim(first, 0, 1, axis=axis), fill)
    after = jax.lax.slice_in_dim(first, 1, None, axis=axis)
    third = jnp.concatenate([after, end], axis)
    return reduce(reduce(first, second), third)


def max_pool(x: jax.Array) -> jax.Array:
    """Max-pool (B, H, W, C) by 3x3 windows, stride 2, SAME, to (B, H/2, W/2, C).

    Rows, then columns: the values of `reduce_window` with a nine times cheaper gradient
    on CPU. Where several pixels of a window tie, they share the gradient.
    """
    return _pool_axis(_pool_axis(x, 1, -jnp.inf, jnp.maximum), 2, -jnp.inf, jnp.maximum)


def avg_pool(x: jax.Array) -> jax.Array:
    """Average-pool like `max_pool`; the padding does not count."""

    def total(x: jax.Array) -> jax.Array:
        return _pool_axis(_pool_axis(x, 1, 0.0, jnp.add), 2, 0.0, jnp.add)

    return total(x) / total(jnp.ones((1, *x.shape[1:3], 1), x.dtype))


class Aggregation(nnx.Module):
    """Halve the image plane and change its width.

    Args:
      in_width, out_width: channels before and after.
      kind: one of `AGGREGATIONS`.
      block_size: tokens along one side of a block; even for "block_plane".
      dtype: compute type.

    Raises:
      ValueError: "block_plane" with an odd block size, which has no middle to cut at.
    """

    def __init__(
        self,
        in_width: int,
        out_width: int,
        *,
        kind: str,
        block_size: int,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.kind = kind
        self.block_size = block_size
        norm_width = out_width
        if kind == "patch_merging":
            norm_width = 4 * in_width
            # No bias, as in Swin: the LayerNorm before it has one.
            self.linear = Linear(
                norm_width, out_width, use_bias=False, dtype=dtype, rngs=rngs
            )
        elif kind == "max_pool":
            self.linear = Linear(in_width, out_width, dtype=dtype, rngs=rngs)
        else:
            self.conv = nnx.Conv(
                in_width,
                out_width,
                kernel_size=(3, 3),
                strides=2 if kind == "conv_stride_2" else 1,
                padding="SAME",
                kernel_init=initializer,
                dtype=dtype,
                rngs=rngs,
            )
        self.norm = LayerNorm(norm_width, dtype=dtype, rngs=rngs)
        if kind == "block_plane" and block_size % 2:
            raise ValueError(
                f"aggregation 'block_plane' halves each block, but a side of "
                f"{block_size} tokens is odd; choose an even block_size"
            )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return (B, H/2, W/2, out_width) for (B, H, W, in_width)."""
        match self.kind:
            case "conv_max_pool":
                return max_pool(self.norm(self.conv(x)))
            case "conv_avg_pool":
                return avg_pool(self.norm(self.conv(x)))
            case "conv_stride_2":
                return self.norm(self.conv(x))
            case "patch_merging":
                return self.linear(self.norm(side_by_side(x)))
            case "max_pool":
                return max_pool(self.norm(self.linear(x)))
            case "block_plane":
                return self._on_block_plane(x)

    def _on_block_plane(self, x: jax.Array) -> jax.Array:
        n = self.block_size
        x = blockify(x, n)  # (B, G, N, C)
        batch, blocks = x.shape[:2]
        x = x.reshape(batch * blocks, n, n, -1)
        x = max_pool(self.norm(self.conv(x)))
        return unblockify(x.reshape(batch, blocks, (n // 2) ** 2, -1))


def side_by_side(x: jax.Array) -> jax.Array:
    """Concatenate each 2x2 square of tokens: (B, H, W, C) to (B, H/2, W/2, 4C)."""
    return jnp.concatenate([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], axis=-1)
