"""De-aggregation: one block becomes four (paper, section 3.3).

Every up-sampling maps an image plane (B, H, W, C) to (B, 2H, 2W, C'). The published one
is `pixel_shuffle`; the others are the paper's comparison.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from nest.models.layers import Linear, initializer

UPSAMPLINGS = (
    "pixel_shuffle",  # channels become 2x2 tokens (published)
    "nearest_conv",  # every token four times, then a 3x3 convolution
    "bilinear_conv",  # bilinear interpolation, then a 3x3 convolution
    "conv_transpose",  # 4x4 transposed convolution of stride 2
)


def pixel_shuffle(x: jax.Array) -> jax.Array:
    """Spread channels over space: (B, H, W, 4C) to (B, 2H, 2W, C).

    Channel 4c + 2i + j becomes channel c of the token in row i, column j of each 2x2
    square.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, channels // 4, 2, 2)
    x = x.transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)


def nearest(x: jax.Array) -> jax.Array:
    """Repeat every token of (B, H, W, C) in a 2x2 square."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


class Upsampling(nnx.Module):
    """Double the image plane and change its width.

    Args:
      in_width, out_width: channels before and after. Pixel shuffle alone gives a
        quarter of the channels, as published; for any other width a linear map makes
        up the channels first.
      kind: one of `UPSAMPLINGS`.
      dtype: compute type.
    """

    def __init__(
        self,
        in_width: int,
        out_width: int,
        *,
        kind: str,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.kind = kind
        if kind == "pixel_shuffle":
            self.linear = (
                Linear(in_width, 4 * out_width, dtype=dtype, rngs=rngs)
                if in_width != 4 * out_width
                else None
            )
        elif kind == "conv_transpose":
            self.conv = nnx.ConvTranspose(
                in_width,
                out_width,
                kernel_size=(4, 4),
                strides=(2, 2),
                padding="SAME",
                kernel_init=initializer,
                dtype=dtype,
                rngs=rngs,
            )
        else:
            self.conv = nnx.Conv(
                in_width,
                out_width,
                kernel_size=(3, 3),
                padding="SAME",
                kernel_init=initializer,
                dtype=dtype,
                rngs=rngs,
            )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return (B, 2H, 2W, out_width) for (B, H, W, in_width)."""
        match self.kind:
            case "pixel_shuffle":
                return pixel_shuffle(x if self.linear is None else self.linear(x))
            case "nearest_conv":
                return self.conv(nearest(x))
            case "bilinear_conv":
                batch, height, width, channels = x.shape
                shape = (batch, 2 * height, 2 * width, channels)
                return self.conv(jax.image.resize(x, shape, "bilinear"))
            case "conv_transpose":
                return self.conv(x)
