"""Swin: attention in windows that move by half from layer to layer (arXiv 2103.14030).

Windows are cut like NesT's blocks; what differs is that tokens of neighbouring windows
meet in every second layer, and that positions count relative to each other.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nest.models.aggregation import side_by_side
from nest.models.baselines.checks import check_divisible, check_images, check_levels
from nest.models.layers import (
    Attention,
    LayerNorm,
    Linear,
    Mlp,
    attend,
    blockify,
    drop_path,
    initializer,
    recomputed,
    unblockify,
)

EPSILON = 1e-5  # of every LayerNorm, as released


@functools.cache
def relative_positions(window: int) -> np.ndarray:
    """Number the relative position of every two tokens of a window.

    Returns:
      (N, N) with N = window ** 2, from 0 to (2 * window - 1) ** 2 - 1: of a token (row)
      as seen from another (column), by rows, then columns.
    """
    places = np.indices((window, window)).reshape(2, -1)  # (2, N)
    rows, columns = places[:, :, None] - places[:, None, :] + window - 1
    return rows * (2 * window - 1) + columns


@functools.cache
def shifted_mask(side: int, window: int, shift: int) -> np.ndarray:
    """Tell which tokens of a window may not see each other after a cyclic shift.

    What the shift brings over the border comes from the other end of the image.

    Args:
      side: of the image plane, in tokens.
      window: side of a window, in tokens.
      shift: how far the plane is rolled up and left, in tokens.

    Returns:
      float32 (G, N, N): 0, or minus infinity where they may not.
    """
    wrapped = np.arange(side) >= side - shift
    part = 2 * wrapped[:, None] + wrapped[None, :]  # (H, W), one of four
    part = np.asarray(part).reshape(side // window, window, side // window, window)
    part = part.transpose(0, 2, 1, 3).reshape(-1, window**2)  # (G, N)
    differs = part[:, :, None] != part[:, None, :]
    return np.where(differs, -np.inf, 0).astype(np.float32)


class WindowAttention(Attention):
    """Attention inside each window, with a learnt bias for every relative position.

    Args:
      width, heads, dtype: see `Attention`.
      window: side of a window, in tokens.
    """

    def __init__(
        self, width: int, heads: int, *, window: int, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        super().__init__(width, heads, "multi_head", dtype=dtype, rngs=rngs)
        self.window = window
        shape = ((2 * window - 1) ** 2, heads)
        self.position_bias = nnx.Param(initializer(rngs.params(), shape))

    def __call__(self, x: jax.Array, mask: np.ndarray | None = None) -> jax.Array:
        """Return the attended (B, G, N, C); `mask` (G, N, N) is added before it."""
        batch, windows, tokens, width = x.shape
        query, key, value = (
            part.reshape(batch, windows, self.heads, tokens, self.head_dim)
            for part in self._project(x)
        )
        bias = self.position_bias[...][relative_positions(self.window)]  # (N, N, H)
        bias = bias.transpose(2, 0, 1)[None]  # (1, H, N, N)
        if mask is not None:
            bias = bias + mask[:, None]  # (G, H, N, N)
        x = attend(query, key, value, bias).transpose(0, 1, 3, 2, 4)
        return self.out(x.reshape(batch, windows, tokens, width))


class SwinLayer(nnx.Module):
    """Pre-norm window attention and MLP on an image plane.

    Args:
      width, heads: see `WindowAttention`.
      window: side of a window, in tokens.
      shift: how far the windows are moved, in tokens; 0 for every other layer.
      drop_path: probability of dropping a branch during training.
      gelu: form of the MLP's, "tanh" or "exact".
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        window: int,
        shift: int,
        drop_path: float,
        gelu: str,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.window = window
        self.shift = shift
        self.drop_path = drop_path
        common = dict(dtype=dtype, rngs=rngs)
        self.attention_norm = LayerNorm(width, epsilon=EPSILON, **common)
        self.attention = WindowAttention(width, heads, window=window, **common)
        self.mlp_norm = LayerNorm(width, epsilon=EPSILON, **common)
        self.mlp = Mlp(width, gelu=gelu, **common)

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return (B, H, W, C) for (B, H, W, C); a `key` turns drop path on."""
        keys = (None, None) if key is None else jax.random.split(key)
        branch = self._attend(self.attention_norm(x))
        x = x + drop_path(branch, self.drop_path, keys[0])
        branch = self.mlp(self.mlp_norm(x))
        return x + drop_path(branch, self.drop_path, keys[1])

    def _attend(self, x: jax.Array) -> jax.Array:
        if not self.shift:
            return unblockify(self.attention(blockify(x, self.window)))
        mask = shifted_mask(x.shape[1], self.window, self.shift)
        x = jnp.roll(x, (-self.shift, -self.shift), axis=(1, 2))
        x = unblockify(self.attention(blockify(x, self.window), mask))
        return jnp.roll(x, (self.shift, self.shift), axis=(1, 2))


class PatchMerging(nnx.Module):
    """Each 2x2 square of tokens becomes one: LayerNorm, linear map without bias."""

    def __init__(self, in_width: int, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm = LayerNorm(4 * in_width, epsilon=EPSILON, dtype=dtype, rngs=rngs)
        self.linear = Linear(
            4 * in_width, width, use_bias=False, dtype=dtype, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return (B, H/2, W/2, width) for (B, H, W, in_width)."""
        return self.linear(self.norm(side_by_side(x)))


class Swin(nnx.Module):
    """The classifier.

    Args:
      image_size: height and width of the images, in pixels.
      patch_size: side of the patch embedded to one token, in pixels.
      block_size: side of a window, in tokens. A level with fewer has one window of all
        its tokens, as released.
      layers, widths, heads: per level, bottom first; each level halves the plane.
      drop_path: rate of the last layer; it grows linearly from 0 over all layers.
      num_classes: length of the logits.
      gelu: "exact" (erf), as published, or "tanh".
      in_channels: channels of the images.
      dtype: compute type; parameters are always float32.
      remat: recompute each layer in the backward pass instead of storing it.

    Raises:
      ValueError: sizes that do not tile, or lengths that differ.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        block_size: int,
        layers: tuple[int, ...],
        widths: tuple[int, ...],
        heads: tuple[int, ...],
        drop_path: float,
        num_classes: int,
        gelu: str = "exact",
        in_channels: int = 3,
        dtype: jnp.dtype = jnp.float32,
        remat: bool = False,
        rngs: nnx.Rngs,
    ):
        check_levels(
            None, layers=layers, widths=widths, heads=heads, drop_path=drop_path
        )
        unit = patch_size * 2 ** (len(layers) - 1)
        check_divisible(image_size, unit, f"{len(layers)} levels of patches")
        self.image_size = image_size
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.dtype = dtype
        self.remat = remat
        common = dict(dtype=dtype, rngs=rngs)
        self.patch_embedding = nnx.Conv(
            in_channels,
            widths[0],
            kernel_size=(patch_size, patch_size),
            strides=patch_size,
            padding="VALID",
            kernel_init=initializer,
            **common,
        )
        self.patch_norm = LayerNorm(widths[0], epsilon=EPSILON, **common)
        rates = np.linspace(0, drop_path, sum(layers)).tolist()
        merging, levels = [], []
        for i, depth in enumerate(layers):
            side = image_size // patch_size >> i
            window = min(block_size, side)
            check_divisible(side * patch_size, window * patch_size, "windows")
            shift = window // 2 if window < side else 0
            merging.append(
                PatchMerging(widths[i - 1], widths[i], **common) if i else None
            )
            levels.append(
                nnx.List(
                    SwinLayer(
                        widths[i],
                        heads[i],
                        window=window,
                        shift=shift if layer % 2 else 0,
                        drop_path=rates.pop(0),
                        gelu=gelu,
                        **common,
                    )
                    for layer in range(depth)
                )
            )
        self.merging = nnx.List(merging)
        self.levels = nnx.List(levels)
        self.norm = LayerNorm(widths[-1], epsilon=EPSILON, **common)
        self.head = Linear(widths[-1], num_classes, rngs=rngs)

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return float32 logits (B, num_classes).

        Args:
          images: (B, image_size, image_size, in_channels), normalized.
          rngs: its `dropout` stream turns drop path on (training).

        Raises:
          ValueError: images of another size or channel count.
        """
        check_images(images, self.image_size, self.in_channels)
        x = self.patch_norm(self.patch_embedding(images.astype(self.dtype)))
        for merging, level in zip(self.merging, self.levels, strict=True):
            x = x if merging is None else merging(x)
            for layer in level:
                key = None if rngs is None else rngs.dropout()
                x = recomputed(layer, x, key) if self.remat else layer(x, key)
        return self.head(self.norm(x).astype(jnp.float32).mean(axis=(1, 2)))
