"""What the baselines check of their arguments and images, in NesT's words."""

import jax


def check_images(images: jax.Array, size: int, channels: int) -> None:
    """Raise ValueError unless images are (B, size, size, channels)."""
    if images.shape[1:] != (size, size, channels):
        raise ValueError(
            f"this model takes images of shape (batch, {size}, {size}, {channels}), "
            f"not {images.shape}; resize them or build the model with image_size="
        )


def check_divisible(image_size: int, unit: int, what: str) -> None:
    """Raise ValueError unless `unit` pixels, for the reason `what`, tile the image."""
    if min(image_size, unit) < 1 or image_size % unit:
        raise ValueError(
            f"image_size {image_size} does not tile: {what} of {unit} pixels need a "
            f"multiple of that"
        )


def check_levels(
    levels: int | None,
    *,
    layers: tuple[int, ...],
    widths: tuple[int, ...],
    heads: tuple[int, ...] | None = None,
    drop_path: float = 0.0,
) -> None:
    """Raise ValueError unless there is one positive number per level everywhere.

    Args:
      levels: how many there have to be; None for any number.
      heads: divides the widths; None for a convolutional network.
    """
    told = {"layers": layers, "widths": widths}
    told |= {} if heads is None else {"heads": heads}
    count = len(layers) if levels is None else levels
    for name, values in told.items():
        if len(values) != count or count < 1 or min(values) < 1:
            raise ValueError(
                f"{name} {tuple(values)} needs one positive number for each of "
                f"{max(count, 1)} level(s)"
            )
    for width, split in zip(widths, heads or (), strict=heads is not None):
        if width % split:
            raise ValueError(f"width {width} is not divisible by its {split} heads")
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path {drop_path} is not in [0, 1)")
