"""A residual convolutional discriminator of the StyleGAN2 kind (arXiv 1912.04958).

The paper does not record its discriminator; the same group's HiT-GAN (arXiv 2106.07631)
trained with one of this kind.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

GROUP = 4  # images whose deviation the discriminator sees together


class EqualizedConv(nnx.Module):
    """A convolution with an equalized learning rate (arXiv 1710.10196).

    Its kernel is N(0, 1), scaled by its fan-in when it is used: Adam then moves every
    kernel at the same relative speed.
    """

    def __init__(
        self,
        in_width: int,
        out_width: int,
        *,
        size: int,
        use_bias: bool = True,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.size = size
        self.dtype = dtype
        shape = (size, size, in_width, out_width)
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(out_width)) if use_bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return (B, H, W, out_width) for (B, H, W, in_width)."""
        fan_in = self.kernel.shape[0] * self.kernel.shape[1] * self.kernel.shape[2]
        kernel = (self.kernel[...] * fan_in**-0.5).astype(self.dtype)
        if self.size == 1:
            x = jnp.tensordot(x, kernel[0, 0], 1)
        else:
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return x if self.bias is None else x + self.bias[...].astype(self.dtype)


class EqualizedLinear(nnx.Module):
    """The same for a linear map (B, C) to (B, C')."""

    def __init__(
        self, in_width: int, out_width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.dtype = dtype
        shape = (in_width, out_width)
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(out_width))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return (B, out_width) for (B, in_width)."""
        kernel = (self.kernel[...] * self.kernel.shape[0] ** -0.5).astype(self.dtype)
        return x @ kernel + self.bias[...].astype(self.dtype)


def leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky ReLU of slope 0.2 that keeps the second moment of normal input."""
    return jax.nn.leaky_relu(x, 0.2) * 2**0.5


def halve(x: jax.Array) -> jax.Array:
    """Blur (B, H, W, C) with the filter 1 3 3 1 and take every second pixel.

    As sums of strided slices, whose gradient is cheap, too; that of a depthwise
    convolution is slow on CPU.
    """
    return _halve_axis(_halve_axis(x, 1), 2)


def _halve_axis(x: jax.Array, axis: int) -> jax.Array:
    """Blur and halve one axis; outside of the image is 0."""
    border = [(0, 0)] * x.ndim
    border[axis] = (1, 1)
    pairs = jnp.pad(x, border)
    pairs = pairs.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    even, odd = (jax.lax.index_in_dim(pairs, i, axis + 1, False) for i in (0, 1))
    first = jax.lax.slice_in_dim(even, 0, -1, axis=axis)
    second = jax.lax.slice_in_dim(odd, 0, -1, axis=axis)
    third = jax.lax.slice_in_dim(even, 1, None, axis=axis)
    fourth = jax.lax.slice_in_dim(odd, 1, None, axis=axis)
    return (first + 3 * second + 3 * third + fourth) / 8


def minibatch_standard_deviation(x: jax.Array) -> jax.Array:
    """Append a channel that tells how much neighbouring images differ.

    It is the standard deviation over `GROUP` neighbours in the batch, averaged over
    space and channels: a generator that repeats itself gives itself away
    (arXiv 1710.10196).

    Args:
      x: (B, H, W, C); of a batch that `GROUP` does not divide, all B are a group.
    """
    batch, height, width, _ = x.shape
    group = GROUP if batch % GROUP == 0 else batch
    y = x.astype(jnp.float32).reshape(batch // group, group, *x.shape[1:])
    deviation = jnp.sqrt(y.var(axis=1) + 1e-8).mean(axis=(1, 2, 3))
    deviation = jnp.repeat(deviation, group)[:, None, None, None]
    deviation = jnp.broadcast_to(deviation, (batch, height, width, 1))
    return jnp.concatenate([x, deviation.astype(x.dtype)], axis=-1)


class DiscriminatorBlock(nnx.Module):
    """Two 3x3 convolutions beside a 1x1 one, with half the side after it.

    Differs from StyleGAN2: the second convolution comes behind the halving, on a
    quarter of the pixels, where StyleGAN2 blurs and convolves with stride 2.
    """

    def __init__(
        self, in_width: int, out_width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        def conv(*widths: int, size: int, use_bias: bool = True) -> EqualizedConv:
            return EqualizedConv(
                *widths, size=size, use_bias=use_bias, dtype=dtype, rngs=rngs
            )

        self.first = conv(in_width, in_width, size=3)
        self.second = conv(in_width, out_width, size=3)
        self.skip = conv(in_width, out_width, size=1, use_bias=False)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return (B, H/2, W/2, out_width) for (B, H, W, in_width)."""
        y = leaky_relu(self.second(halve(leaky_relu(self.first(x)))))
        return (y + self.skip(halve(x))) * 2**-0.5


class Discriminator(nnx.Module):
    """Tells real images from generated ones.

    Args:
      image_size: height and width of the images, in pixels.
      widths: channels at the image's own size, at half of it, and so on.
      channels: of the images.
      dtype: compute type; parameters are always float32.

    Raises:
      ValueError: a size that cannot be halved that often.
    """

    def __init__(
        self,
        *,
        image_size: int,
        widths: Sequence[int],
        channels: int = 3,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if not widths or min(widths) < 1:
            raise ValueError(f"widths {tuple(widths)} must be positive, at least one")
        halvings = len(widths) - 1
        side = image_size >> halvings
        if side << halvings != image_size or side < 2:
            raise ValueError(
                f"image_size {image_size} cannot be halved {halvings} times down to 2 "
                f"pixels or more; give the discriminator fewer widths"
            )
        self.dtype = dtype
        self.from_pixels = EqualizedConv(
            channels, widths[0], size=1, dtype=dtype, rngs=rngs
        )
        self.blocks = nnx.List(
            DiscriminatorBlock(widths[i], widths[i + 1], dtype=dtype, rngs=rngs)
            for i in range(halvings)
        )
        last = widths[-1]
        self.conv = EqualizedConv(last + 1, last, size=3, dtype=dtype, rngs=rngs)
        self.hidden = EqualizedLinear(side**2 * last, last, dtype=dtype, rngs=rngs)
        self.head = EqualizedLinear(last, 1, dtype=jnp.float32, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Return float32 logits (B,), high for real.

        Args:
          images: (B, S, S, 3) in [-1, 1].
        """
        x = leaky_relu(self.from_pixels(images.astype(self.dtype)))
        for block in self.blocks:
            x = block(x)
        x = leaky_relu(self.conv(minibatch_standard_deviation(x)))
        x = leaky_relu(self.hidden(x.reshape(len(x), -1)))
        return self.head(x.astype(jnp.float32))[:, 0]
