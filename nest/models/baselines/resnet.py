"""ResNet with bottleneck layers, version 1.5 (arXiv 1512.03385, table 1).

Version 1.5 has the stride in the 3x3 convolution of a bottleneck, not in the 1x1 before
it as the paper has: torchvision's and timm's ResNet-50, and what papers compare with.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from nest.models.baselines.checks import check_divisible, check_images, check_levels
from nest.models.baselines.convolution import BatchNorm, Convolution

EXPANSION = 4  # outputs of a bottleneck / its inner width


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut.

    Args:
      in_width: channels that come in.
      width: channels inside; four times as many come out.
      stride: 2 halves the image plane.
      dtype: compute type.
    """

    def __init__(
        self,
        in_width: int,
        width: int,
        *,
        stride: int,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        out_width = EXPANSION * width
        common = dict(dtype=dtype, rngs=rngs)
        self.reduce = Convolution(in_width, width, size=1, **common)
        self.reduce_norm = BatchNorm(width, **common)
        self.conv = Convolution(width, width, size=3, stride=stride, **common)
        self.conv_norm = BatchNorm(width, **common)
        self.expand = Convolution(width, out_width, size=1, **common)
        self.expand_norm = BatchNorm(out_width, scale=0.0, **common)
        if stride > 1 or in_width != out_width:
            self.shortcut = Convolution(
                in_width, out_width, size=1, stride=stride, **common
            )
            self.shortcut_norm = BatchNorm(out_width, **common)
        else:
            self.shortcut = self.shortcut_norm = None

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return (B, H / stride, W / stride, 4 * width) for (B, H, W, in_width)."""
        branch = nnx.relu(self.reduce_norm(self.reduce(x), rngs=rngs))
        branch = nnx.relu(self.conv_norm(self.conv(branch), rngs=rngs))
        branch = self.expand_norm(self.expand(branch), rngs=rngs)
        if self.shortcut is not None:
            x = self.shortcut_norm(self.shortcut(x), rngs=rngs)
        return nnx.relu(x + branch)


class ResNet(nnx.Module):
    """The classifier.

    Args:
      image_size: height and width of the images, in pixels.
      layers, widths: bottlenecks and their inner width, per level, bottom first; every
        level but the first halves the image plane.
      num_classes: length of the logits.
      in_channels: channels of the images.
      dtype: compute type; parameters are always float32.

    Raises:
      ValueError: an image size that the strides do not divide, or lengths that differ.
    """

    def __init__(
        self,
        *,
        image_size: int,
        layers: tuple[int, ...],
        widths: tuple[int, ...],
        num_classes: int,
        in_channels: int = 3,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_levels(None, layers=layers, widths=widths)
        check_divisible(image_size, 2 ** (1 + len(layers)), "strides")
        self.image_size = image_size
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.dtype = dtype
        common = dict(dtype=dtype, rngs=rngs)
        width = widths[0]
        self.stem = Convolution(in_channels, width, size=7, stride=2, **common)
        self.stem_norm = BatchNorm(width, **common)
        bottlenecks = []
        for level, (depth, inner) in enumerate(zip(layers, widths, strict=True)):
            for layer in range(depth):
                stride = 2 if level > 0 and layer == 0 else 1
                bottlenecks.append(Bottleneck(width, inner, stride=stride, **common))
                width = EXPANSION * inner
        self.layers = nnx.List(bottlenecks)
        self.head = nnx.Linear(
            width,
            num_classes,
            kernel_init=nnx.initializers.normal(0.01),  # arXiv 1706.02677, section 5.1
            rngs=rngs,
        )

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return float32 logits (B, num_classes).

        Args:
          images: (B, image_size, image_size, in_channels), normalized.
          rngs: given in training: normalizes with the batch's statistics, and updates
            the running ones.

        Raises:
          ValueError: images of another size or channel count.
        """
        check_images(images, self.image_size, self.in_channels)
        x = self.stem(images.astype(self.dtype))
        x = nnx.relu(self.stem_norm(x, rngs=rngs))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for layer in self.layers:
            x = layer(x, rngs=rngs)
        return self.head(x.astype(jnp.float32).mean(axis=(1, 2)))
