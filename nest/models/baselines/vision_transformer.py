"""The vision transformer as DeiT trains it, without distillation.

DeiT: arXiv 2012.12877, table 1; the architecture: arXiv 2010.11929. Its layers are
those of NesT, with the whole image as one block.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nest.models.baselines.checks import check_divisible, check_images, check_levels
from nest.models.layers import (
    LayerNorm,
    Linear,
    TransformerLayer,
    initializer,
    recomputed,
)


class VisionTransformer(nnx.Module):
    """The classifier.

    Args:
      image_size: height and width of the images, in pixels; patches tile it.
      patch_size: side of the patch embedded to one token, in pixels.
      layers, widths, heads: one number each, as a vision transformer has one level.
      drop_path: rate of the last layer; it grows linearly from 0 over all layers.
      num_classes: length of the logits.
      gelu: "exact" (erf), as published, or "tanh".
      in_channels: channels of the images.
      dtype: compute type; parameters are always float32.
      remat: recompute each layer in the backward pass instead of storing it.

    Raises:
      ValueError: sizes that do not tile, or more than one level.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
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
        check_levels(1, layers=layers, widths=widths, heads=heads, drop_path=drop_path)
        check_divisible(image_size, patch_size, "patches")
        (depth,), (width,), (heads_of_layer,) = layers, widths, heads
        self.image_size = image_size
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.dtype = dtype
        self.remat = remat
        self.patch_embedding = nnx.Conv(
            in_channels,
            width,
            kernel_size=(patch_size, patch_size),
            strides=patch_size,
            padding="VALID",
            kernel_init=initializer,
            dtype=dtype,
            rngs=rngs,
        )
        tokens = 1 + (image_size // patch_size) ** 2
        self.class_token = nnx.Param(initializer(rngs.params(), (1, 1, width)))
        shape = (1, tokens, width)
        self.position_embedding = nnx.Param(initializer(rngs.params(), shape))
        self.layers = nnx.List(
            TransformerLayer(
                width,
                heads_of_layer,
                "multi_head",
                drop_path=float(rate),
                gelu=gelu,
                dtype=dtype,
                rngs=rngs,
            )
            for rate in np.linspace(0, drop_path, depth)
        )
        self.norm = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.head = Linear(width, num_classes, rngs=rngs)

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return float32 logits (B, num_classes).

        Args:
          images: (B, image_size, image_size, in_channels), normalized.
          rngs: its `dropout` stream turns drop path on (training).

        Raises:
          ValueError: images of another size or channel count.
        """
        check_images(images, self.image_size, self.in_channels)
        x = self.patch_embedding(images.astype(self.dtype))
        x = x.reshape(x.shape[0], -1, x.shape[-1])  # (B, N, C)
        token = self.class_token[...].astype(self.dtype)
        token = jnp.broadcast_to(token, (x.shape[0], *token.shape[1:]))
        x = jnp.concatenate([token, x], axis=1)
        x = x + self.position_embedding[...].astype(self.dtype)
        x = x[:, None]  # (B, 1, N, C)
        for layer in self.layers:
            key = None if rngs is None else rngs.dropout()
            x = recomputed(layer, x, key) if self.remat else layer(x, key)
        return self.head(self.norm(x[:, 0, 0]).astype(jnp.float32))
