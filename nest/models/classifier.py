"""NesT, the nested hierarchical transformer (arXiv 2105.12723, section 3)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nest.models.aggregation import AGGREGATIONS, Aggregation
from nest.models.layers import (
    ATTENTION,
    GELU,
    LayerNorm,
    Linear,
    TransformerLayer,
    blockify,
    initializer,
    recomputed,
    unblockify,
)


class Level(nnx.Module):
    """One hierarchy of the tree: aggregation, position embedding, layers per block.

    Args:
      in_width: channels of the level below, or None at the bottom (no aggregation).
      width, heads: of this level's transformer layers.
      blocks, block_size: G blocks of block_size ** 2 tokens.
      drop_path: one rate per transformer layer.
      gelu: form of the MLPs', "tanh" or "exact".
      remat: recompute each layer in the backward pass instead of storing it.
    """

    def __init__(
        self,
        in_width: int | None,
        width: int,
        heads: int,
        *,
        blocks: int,
        block_size: int,
        attention: str,
        aggregation: str,
        drop_path: tuple[float, ...],
        gelu: str,
        dtype: jnp.dtype,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        self.block_size = block_size
        self.dtype = dtype
        self.remat = remat
        if in_width is not None:
            self.aggregation = Aggregation(
                in_width,
                width,
                kind=aggregation,
                block_size=block_size,
                dtype=dtype,
                rngs=rngs,
            )
        else:
            self.aggregation = None
        shape = (1, blocks, block_size**2, width)
        self.position_embedding = nnx.Param(initializer(rngs.params(), shape))
        self.layers = nnx.List(
            TransformerLayer(
                width,
                heads,
                attention,
                drop_path=rate,
                gelu=gelu,
                dtype=dtype,
                rngs=rngs,
            )
            for rate in drop_path
        )

    def enter(self, x: jax.Array) -> jax.Array:
        """Return this level's tokens (B, G, N, C), before its layers, for the image
        plane below."""
        if self.aggregation is not None:
            x = self.aggregation(x)
        x = blockify(x, self.block_size)
        return x + self.position_embedding[...].astype(self.dtype)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Map the image plane below to this level's image plane."""
        x = self.enter(x)
        for layer in self.layers:
            key = None if rngs is None else rngs.dropout()
            x = recomputed(layer, x, key) if self.remat else layer(x, key)
        return unblockify(x)  # (B, H, W, C)


class NesT(nnx.Module):
    """The classifier.

    Args:
      image_size: height and width of the images, in pixels.
      patch_size: side of the patch embedded to one token, in pixels.
      layers, widths, heads: per level, bottom first.
      attention: "multi_head" or "multi_query".
      drop_path: rate of the last layer; it grows linearly from 0 over all layers.
      num_classes: length of the logits.
      block_size: tokens along one side of a block; None leaves one block at the top,
        as published.
      aggregation: one of `nest.models.aggregation.AGGREGATIONS`.
      gelu: "tanh", as published, or "exact" (erf), as in timm.
      in_channels: channels of the images.
      dtype: compute type; parameters are always float32.
      remat: recompute each transformer layer in the backward pass: less memory, about
        a third more time.

    Raises:
      ValueError: sizes that do not tile, lengths that differ, an unknown choice.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        layers: tuple[int, ...],
        widths: tuple[int, ...],
        heads: tuple[int, ...],
        attention: str,
        drop_path: float,
        num_classes: int,
        block_size: int | None = None,
        aggregation: str = "conv_max_pool",
        gelu: str = "tanh",
        in_channels: int = 3,
        dtype: jnp.dtype = jnp.float32,
        remat: bool = False,
        rngs: nnx.Rngs,
    ):
        _check(
            image_size=image_size,
            patch_size=patch_size,
            block_size=block_size,
            layers=layers,
            widths=widths,
            heads=heads,
            attention=attention,
            aggregation=aggregation,
            gelu=gelu,
            drop_path=drop_path,
            num_classes=num_classes,
        )
        rows, block_size = tiling(image_size, patch_size, len(layers), block_size)
        self.image_size = image_size
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.dtype = dtype
        self.patch_embedding = nnx.Conv(
            in_channels,
            widths[0],
            kernel_size=(patch_size, patch_size),
            strides=patch_size,
            padding="VALID",
            kernel_init=initializer,
            dtype=dtype,
            rngs=rngs,
        )
        rates = [float(rate) for rate in np.linspace(0, drop_path, sum(layers))]
        levels = []
        for i, depth in enumerate(layers):
            start = sum(layers[:i])
            levels.append(
                Level(
                    widths[i - 1] if i else None,
                    widths[i],
                    heads[i],
                    blocks=(rows >> i) ** 2,
                    block_size=block_size,
                    attention=attention,
                    aggregation=aggregation,
                    drop_path=tuple(rates[start : start + depth]),
                    gelu=gelu,
                    dtype=dtype,
                    remat=remat,
                    rngs=rngs,
                )
            )
        self.levels = nnx.List(levels)
        self.norm = LayerNorm(widths[-1], dtype=dtype, rngs=rngs)
        self.head = Linear(widths[-1], num_classes, rngs=rngs)

    def features(
        self, images: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, ...]:
        """Return every level's output on the image plane, before its aggregation.

        Args:
          images: (B, image_size, image_size, in_channels), normalized.
          rngs: its `dropout` stream turns drop path on (training).

        Returns:
          One (B, H, W, C) per level, bottom first; H and W halve from level to level.

        Raises:
          ValueError: images of another size or channel count.
        """
        x = self.embed(images)
        maps = []
        for level in self.levels:
            x = level(x, rngs=rngs)
            maps.append(x)
        return tuple(maps)

    def embed(self, images: jax.Array) -> jax.Array:
        """Return the patches' tokens (B, H, W, C); arguments as in `features`."""
        size = (self.image_size, self.image_size, self.in_channels)
        if images.shape[1:] != size:
            raise ValueError(
                f"this model takes images of shape (batch, {size[0]}, {size[1]}, "
                f"{size[2]}), not {images.shape}; resize them or build the model with "
                f"image_size="
            )
        return self.patch_embedding(images.astype(self.dtype))

    def classify(self, x: jax.Array) -> jax.Array:
        """Return float32 logits (B, num_classes) for the top level's (B, H, W, C)."""
        return self.score(self.norm(x))

    def score(self, x: jax.Array) -> jax.Array:
        """Return float32 logits (B, num_classes) for normalized tokens (B, H, W, C)."""
        return self.head(x.astype(jnp.float32).mean(axis=(1, 2)))

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return float32 logits (B, num_classes); arguments as in `features`."""
        return self.classify(self.features(images, rngs=rngs)[-1])


def tiling(
    image_size: int, patch_size: int, levels: int, block_size: int | None = None
) -> tuple[int, int]:
    """Find how an image is cut.

    Args:
      image_size, patch_size: in pixels.
      levels: each but the last merges 2x2 blocks into one.
      block_size: tokens along one side of a block, or None for one block at the top.

    Returns:
      Blocks along one side at the bottom level, and tokens along one side of a block.

    Raises:
      ValueError: the size does not tile; the message names the nearest that do.
    """
    merged = 2 ** (levels - 1)
    unit = patch_size * merged * (block_size or 1)
    if image_size < unit or image_size % unit:
        below = image_size // unit * unit
        nearest = [f"{size}" for size in (below, below + unit) if size > 0]
        blocks = f" blocks of {block_size}x{block_size} tokens" if block_size else ""
        raise ValueError(
            f"image_size {image_size} does not tile: {levels} levels of patches of "
            f"{patch_size} pixels{blocks} need a multiple of {unit}; the nearest are "
            f"{' and '.join(nearest)}"
        )
    if block_size is None:
        block_size = image_size // unit
    return image_size // (patch_size * block_size), block_size


def _check(
    *,
    image_size: int,
    patch_size: int,
    block_size: int | None,
    layers: tuple[int, ...],
    widths: tuple[int, ...],
    heads: tuple[int, ...],
    attention: str,
    aggregation: str,
    gelu: str,
    drop_path: float,
    num_classes: int,
) -> None:
    if not len(layers) == len(widths) == len(heads) > 0:
        raise ValueError(
            f"layers {layers}, widths {widths} and heads {heads} need one entry per "
            f"level each"
        )
    if min(*layers, *widths, *heads, image_size, patch_size, block_size or 1) < 1:
        raise ValueError("sizes, layers, widths and heads must be positive")
    for width, count in zip(widths, heads, strict=True):
        if width % count:
            raise ValueError(f"width {width} is not divisible by its {count} heads")
    if attention not in ATTENTION:
        raise ValueError(f"no attention {attention!r}; there are: {ATTENTION}")
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"no aggregation {aggregation!r}; there are: {AGGREGATIONS}")
    if gelu not in GELU:
        raise ValueError(f"no gelu {gelu!r}; there are: {GELU}")
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path {drop_path} is not in [0, 1)")
    if num_classes < 1:
        raise ValueError(f"num_classes {num_classes} is not positive")
