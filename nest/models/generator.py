"""The transposed NesT: from noise down the tree to an image (paper, section 3.3).

One block of tokens becomes four, and so on, until every token is a pixel or a patch.
The paper gives the idea and the number of parameters; its widths and layers are not
recorded. What was chosen here is marked in `nest.models.generators.GENERATORS`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from nest.models.layers import (
    ATTENTION,
    LayerNorm,
    Linear,
    TransformerLayer,
    attend,
    blockify,
    initializer,
    unblockify,
)
from nest.models.long_attention import LONG, LONG_ATTENTION
from nest.models.upsampling import UPSAMPLINGS, Upsampling


class GeneratorLevel(nnx.Module):
    """One hierarchy of the tree, upside down: de-aggregation, then layers per block.

    Args:
      in_width: channels of the level above, or None at the top (no de-aggregation).
      width, heads, layers: of this level's transformer layers.
      blocks, block_size: G blocks of block_size ** 2 tokens.
      upsampling: one of `nest.models.upsampling.UPSAMPLINGS`.
      long_attention: see `Generator`.
    """

    def __init__(
        self,
        in_width: int | None,
        width: int,
        heads: int,
        layers: int,
        *,
        blocks: int,
        block_size: int,
        attention: str,
        long_attention: str,
        upsampling: str,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.block_size = block_size
        self.dtype = dtype
        if in_width is not None:
            self.upsampling = Upsampling(
                in_width, width, kind=upsampling, dtype=dtype, rngs=rngs
            )
        else:
            self.upsampling = None
        shape = (1, blocks, block_size**2, width)
        self.position_embedding = nnx.Param(initializer(rngs.params(), shape))
        long = block_size**2 >= LONG
        self.layers = nnx.List(
            TransformerLayer(
                width,
                heads,
                attention,
                attend=LONG_ATTENTION[long_attention] if long else attend,
                dtype=dtype,
                rngs=rngs,
            )
            for _ in range(layers)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map the image plane above (B, H, W, C) to this level's (B, 2H, 2W, C')."""
        if self.upsampling is not None:
            x = self.upsampling(x)
        x = blockify(x, self.block_size)  # (B, G, N, C)
        x = x + self.position_embedding[...].astype(self.dtype)
        for layer in self.layers:
            x = layer(x)
        return unblockify(x)


class Generator(nnx.Module):
    """The transposed NesT.

    Args:
      image_size: height and width of the images, in pixels.
      noise_size: length of the noise vector.
      layers, widths, heads: per level, top first; every level doubles the side.
      patch_size: side of the square of pixels that a token of the last level becomes.
      upsampling: one of `nest.models.upsampling.UPSAMPLINGS`.
      attention: "multi_head" or "multi_query".
      nested: attention inside blocks of the size of the first level's plane. False
        lets all tokens of a level attend to each other, as in TransGAN
        (arXiv 2102.07074), which the paper compares with.
      long_attention: how it is computed where a block has 1024 tokens or more, a key of
        `nest.models.long_attention.LONG_ATTENTION`.
      channels: of the images.
      dtype: compute type; parameters are always float32.

    Raises:
      ValueError: a size that the levels do not reach, lengths that differ, an unknown
        choice.
    """

    def __init__(
        self,
        *,
        image_size: int,
        noise_size: int,
        layers: tuple[int, ...],
        widths: tuple[int, ...],
        heads: tuple[int, ...],
        patch_size: int = 1,
        upsampling: str = "pixel_shuffle",
        attention: str = "multi_head",
        nested: bool = True,
        long_attention: str = "slices",
        channels: int = 3,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        _check(layers, widths, heads, noise_size, patch_size, upsampling, attention)
        if long_attention not in LONG_ATTENTION:
            raise ValueError(
                f"no long_attention {long_attention!r}; there are: "
                f"{', '.join(LONG_ATTENTION)}"
            )
        start = start_size(image_size, patch_size, len(layers))
        self.image_size = image_size
        self.noise_size = noise_size
        self.patch_size = patch_size
        self.dtype = dtype
        self.start_size = start
        self.noise_embedding = Linear(
            noise_size, start**2 * widths[0], dtype=dtype, rngs=rngs
        )
        self.levels = nnx.List(
            GeneratorLevel(
                widths[i - 1] if i else None,
                widths[i],
                heads[i],
                layers[i],
                blocks=4**i if nested else 1,
                block_size=start if nested else start * 2**i,
                attention=attention,
                long_attention=long_attention,
                upsampling=upsampling,
                dtype=dtype,
                rngs=rngs,
            )
            for i in range(len(layers))
        )
        self.norm = LayerNorm(widths[-1], dtype=dtype, rngs=rngs)
        self.to_pixels = Linear(
            widths[-1], patch_size**2 * channels, dtype=dtype, rngs=rngs
        )

    def __call__(self, noise: jax.Array) -> jax.Array:
        """Return float32 images (B, S, S, 3) in [-1, 1] for noise (B, noise_size)."""
        x = self.noise_embedding(noise.astype(self.dtype))
        x = x.reshape(len(noise), self.start_size, self.start_size, -1)
        for level in self.levels:
            x = level(x)
        x = self.to_pixels(self.norm(x))  # (B, H, W, patch * patch * 3)
        x = unblockify(
            x.reshape(
                len(noise), -1, self.patch_size**2, x.shape[-1] // self.patch_size**2
            )
        )
        return jnp.tanh(x.astype(jnp.float32))


def start_size(image_size: int, patch_size: int, levels: int) -> int:
    """Return the side, in tokens, of the first level's plane, which is one block.

    Raises:
      ValueError: the levels do not reach the size; the message names the nearest sizes
        that they do.
    """
    unit = patch_size * 2 ** (levels - 1)
    if image_size < 2 * unit or image_size % unit:
        below = image_size // unit * unit
        nearest = [str(size) for size in (below, below + unit) if size >= 2 * unit]
        raise ValueError(
            f"image_size {image_size} is not reached: {levels} levels that double the "
            f"side and patches of {patch_size} pixels need a multiple of {unit} from "
            f"{2 * unit} on; the nearest: {' and '.join(nearest) or 2 * unit}"
        )
    return image_size // unit


def _check(
    layers: tuple[int, ...],
    widths: tuple[int, ...],
    heads: tuple[int, ...],
    noise_size: int,
    patch_size: int,
    upsampling: str,
    attention: str,
) -> None:
    if not len(layers) == len(widths) == len(heads) > 0:
        raise ValueError(
            f"layers {layers}, widths {widths} and heads {heads} need one entry per "
            f"level each"
        )
    if min(*widths, *heads, noise_size, patch_size) < 1:
        raise ValueError("widths, heads, noise_size and patch_size must be positive")
    if min(layers) < 0:
        raise ValueError(f"layers {layers} must not be negative")
    for width, count in zip(widths, heads, strict=True):
        if width % count:
            raise ValueError(f"width {width} is not divisible by its {count} heads")
    if upsampling not in UPSAMPLINGS:
        raise ValueError(f"no upsampling {upsampling!r}; there are: {UPSAMPLINGS}")
    if attention not in ATTENTION:
        raise ValueError(f"no attention {attention!r}; there are: {ATTENTION}")
