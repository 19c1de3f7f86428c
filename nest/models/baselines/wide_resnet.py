"""Wide ResNet, pre-activation, without dropout (arXiv 1605.07146, table 1)."""

import jax
import jax.numpy as jnp
from flax import nnx

from nest.models.baselines.checks import check_divisible, check_images, check_levels
from nest.models.baselines.convolution import BatchNorm, Convolution

STEM_WIDTH = 16


class BasicLayer(nnx.Module):
    """Two 3x3 convolutions beside a shortcut, each after normalization and ReLU.

    Where the shape changes, the shortcut is a 1x1 convolution of the activated input,
    as in the authors' code.

    Args:
      in_width, width: channels that come in and go out.
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
        common = dict(dtype=dtype, rngs=rngs)
        self.first_norm = BatchNorm(in_width, **common)
        self.first = Convolution(in_width, width, size=3, stride=stride, **common)
        self.second_norm = BatchNorm(width, **common)
        self.second = Convolution(width, width, size=3, **common)
        if stride > 1 or in_width != width:
            self.shortcut = Convolution(
                in_width, width, size=1, stride=stride, **common
            )
        else:
            self.shortcut = None

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return (B, H / stride, W / stride, width) for (B, H, W, in_width)."""
        activated = nnx.relu(self.first_norm(x, rngs=rngs))
        branch = self.first(activated)
        branch = self.second(nnx.relu(self.second_norm(branch, rngs=rngs)))
        return branch + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nnx.Module):
    """The classifier.

    Args:
      image_size: height and width of the images, in pixels.
      layers, widths: layers of two convolutions and their width, per level, bottom
        first; every level but the first halves the image plane.
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
        check_divisible(image_size, 2 ** (len(layers) - 1), "strides")
        self.image_size = image_size
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.dtype = dtype
        common = dict(dtype=dtype, rngs=rngs)
        self.stem = Convolution(in_channels, STEM_WIDTH, size=3, **common)
        in_width, basic_layers = STEM_WIDTH, []
        for level, (depth, width) in enumerate(zip(layers, widths, strict=True)):
            for layer in range(depth):
                stride = 2 if level > 0 and layer == 0 else 1
                basic_layers.append(
                    BasicLayer(in_width, width, stride=stride, **common)
                )
                in_width = width
        self.layers = nnx.List(basic_layers)
        self.norm = BatchNorm(in_width, **common)
        self.head = nnx.Linear(in_width, num_classes, rngs=rngs)

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return float32 logits (B, num_classes); arguments as in `ResNet`."""
        check_images(images, self.image_size, self.in_channels)
        x = self.stem(images.astype(self.dtype))
        for layer in self.layers:
            x = layer(x, rngs=rngs)
        x = nnx.relu(self.norm(x, rngs=rngs))
        return self.head(x.astype(jnp.float32).mean(axis=(1, 2)))
