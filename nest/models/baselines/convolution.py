"""What the convolutional baselines are made of: convolution and batch normalization."""

import jax
import jax.numpy as jnp
from flax import nnx

# He et al., arXiv 1502.01852, for the outputs' number.
he_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


class Convolution(nnx.Conv):
    """A convolution without bias, padded by the same number of pixels on all sides.

    Args:
      in_width, out_width: channels before and after.
      size: side of the kernel, odd; the padding is half of it.
      stride: in pixels.
      dtype: compute type.
    """

    def __init__(
        self,
        in_width: int,
        out_width: int,
        *,
        size: int,
        stride: int = 1,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            in_width,
            out_width,
            kernel_size=(size, size),
            strides=stride,
            padding=((size // 2, size // 2),) * 2,
            use_bias=False,
            kernel_init=he_normal,
            dtype=dtype,
            rngs=rngs,
        )


class BatchNorm(nnx.BatchNorm):
    """Batch normalization (arXiv 1502.03167) of (B, H, W, C), over all but channels.

    Training normalizes with the mean and variance of the batch and moves the running
    ones a tenth of the way to them; evaluation uses the running ones. Under `jax.jit`
    with a sharded batch that is the global batch. Statistics are float32 for any
    compute type.

    Args:
      width: channels.
      scale: start of the learnt scale; 0 for the last of a residual branch makes the
        branch start as nothing (arXiv 1706.02677, section 5.1).
      dtype: type of the result.
    """

    def __init__(
        self,
        width: int,
        *,
        scale: float = 1.0,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            width,
            momentum=0.9,
            epsilon=1e-5,
            dtype=jnp.float32,
            scale_init=nnx.initializers.constant(scale),
            rngs=rngs,
        )
        self.out_dtype = dtype

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the normalized x; `rngs` means training, as everywhere."""
        x = super().__call__(x, use_running_average=rngs is None)
        return x.astype(self.out_dtype)
