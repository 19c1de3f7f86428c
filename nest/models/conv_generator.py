"""A residual convolutional generator of the SAGAN kind, without attention.

The paper compares the transposed NesT with one of these; block by block it follows the
published description of SAGAN (arXiv 1805.08318).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from nest.models.layers import Linear
from nest.models.upsampling import nearest


class ConvGeneratorBlock(nnx.Module):
    """Norm, ReLU, up-sampling, convolution; norm, ReLU, convolution; beside a 1x1 one.

    Differs from SAGAN: GroupNorm in the place of batch normalization, so that no
    statistics have to be carried from training to sampling.
    """

    def __init__(
        self, in_width: int, out_width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        def conv(*widths: int, size: int) -> nnx.Conv:
            return nnx.Conv(
                *widths,
                kernel_size=(size, size),
                padding="SAME",
                dtype=dtype,
                rngs=rngs,
            )

        self.first_norm = group_norm(in_width, dtype, rngs)
        self.first = conv(in_width, out_width, size=3)
        self.second_norm = group_norm(out_width, dtype, rngs)
        self.second = conv(out_width, out_width, size=3)
        self.skip = conv(in_width, out_width, size=1)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return (B, 2H, 2W, out_width) for (B, H, W, in_width)."""
        y = self.first(nearest(jax.nn.relu(self.first_norm(x))))
        y = self.second(jax.nn.relu(self.second_norm(y)))
        return y + nearest(self.skip(x))  # a 1x1 convolution may come first


class ConvGenerator(nnx.Module):
    """The convolutional generator.

    Args:
      image_size: height and width of the images, in pixels.
      noise_size: length of the noise vector.
      widths: channels before the first block and after each; every block doubles the
        side.
      channels: of the images.
      dtype: compute type; parameters are always float32.

    Raises:
      ValueError: a size that the blocks do not reach.
    """

    def __init__(
        self,
        *,
        image_size: int,
        noise_size: int,
        widths: tuple[int, ...],
        channels: int = 3,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        blocks = len(widths) - 1
        if blocks < 1 or min(*widths, noise_size) < 1:
            raise ValueError(f"widths {widths} need two or more positive entries")
        self.start_size = image_size >> blocks
        if self.start_size << blocks != image_size or self.start_size < 1:
            raise ValueError(
                f"image_size {image_size} is not reached: {blocks} blocks that double "
                f"the side need a multiple of {2**blocks}"
            )
        self.image_size = image_size
        self.noise_size = noise_size
        self.dtype = dtype
        self.noise_embedding = Linear(
            noise_size, self.start_size**2 * widths[0], dtype=dtype, rngs=rngs
        )
        self.blocks = nnx.List(
            ConvGeneratorBlock(widths[i], widths[i + 1], dtype=dtype, rngs=rngs)
            for i in range(blocks)
        )
        self.norm = group_norm(widths[-1], dtype, rngs)
        self.to_pixels = nnx.Conv(
            widths[-1],
            channels,
            kernel_size=(3, 3),
            padding="SAME",
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, noise: jax.Array) -> jax.Array:
        """Return float32 images (B, S, S, 3) in [-1, 1] for noise (B, noise_size)."""
        x = self.noise_embedding(noise.astype(self.dtype))
        x = x.reshape(len(noise), self.start_size, self.start_size, -1)
        for block in self.blocks:
            x = block(x)
        x = self.to_pixels(jax.nn.relu(self.norm(x)))
        return jnp.tanh(x.astype(jnp.float32))


def group_norm(width: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.GroupNorm:
    """Build a GroupNorm of at most 32 groups, at least 4 channels each where it can."""
    groups = next(g for g in (32, 16, 8, 4, 2, 1) if width % (4 * g) == 0 or g == 1)
    return nnx.GroupNorm(width, num_groups=groups, dtype=dtype, rngs=rngs)
