"""Which model a set of arrays belongs to, told from their shapes alone."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from nest.models.classifier import tiling
from nest.models.variants import VARIANTS
from nest.weights.arrays import shortened

# What a create_model argument is when neither the variant nor an override says.
DEFAULTS: dict[str, Any] = dict(
    block_size=None, aggregation="conv_max_pool", gelu="tanh", in_channels=3
)

# Per channel, of values in [0, 1]; the released code's.
IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CIFAR_10 = dict(mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616))
CIFAR_100 = dict(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761))


def full_arguments(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of `create_model` that shape the weights, defaults too.

    Args:
      model: "name" and whatever differs from that variant.
    """
    full = DEFAULTS | VARIANTS[model["name"]] | dict(model)
    if full["block_size"] is not None:
        size, patch, levels = (
            full["image_size"],
            full["patch_size"],
            len(full["layers"]),
        )
        if tiling(size, patch, levels)[1] == full["block_size"]:
            full["block_size"] = None
    return full


def short_arguments(model: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what the variant says anyway, but for the sizes and the form of the GELU."""
    variant = DEFAULTS | VARIANTS[model["name"]]
    always = ("name", "image_size", "num_classes", "gelu")
    full = full_arguments(model)
    overrides = {
        name: value
        for name, value in full.items()
        if name not in always and value != variant[name]
    }
    return {name: full[name] for name in always} | overrides


def published_input(name: str, num_classes: int) -> dict[str, Any]:
    """Return the mean, std and evaluation crop that a variant was published with.

    With other classes than the published, those of the data it comes from: ImageNet at
    224 pixels, CIFAR-10 at 32.
    """
    if name.endswith("_224"):
        return IMAGENET | dict(eval_crop=224 / 256)
    return (CIFAR_100 if num_classes == 100 else CIFAR_10) | dict(eval_crop=1.0)


def recognize(
    arrays: Mapping[str, Any], heads: tuple[int, ...] | None = None
) -> dict[str, Any]:
    """Tell the model from the shapes of its arrays.

    The variant is the published one, whatever the image size and the classes, or the
    nearest, with overrides. The kind of aggregation is told as far as it shows.

    Args:
      arrays: name -> something with a shape.
      heads: per level, where known. Multi-head attention does not show them; without,
        a head is as wide as the nearest variant's (32 channels at 224 pixels, 64 at
        32).

    Returns:
      Arguments of `create_model`, without gelu and drop_path.

    Raises:
      ValueError: the arrays are not a NesT, or one that it takes to tell is missing.
    """
    levels = _count(arrays, r"levels\.(\d+)\..*", "levels")
    if not levels or not any(".attention.qkv." in name for name in arrays):
        known = re.compile(r"(patch_embedding|levels\.\d|norm|head)\.")
        others = [name for name in arrays if not known.match(name)]
        raise ValueError(f"not a NesT: it has {shortened(others or arrays)}")
    positions = [
        _shape(arrays, f"levels.{i}.position_embedding", 4) for i in range(levels)
    ]
    patch = _shape(arrays, "patch_embedding.kernel", 4)
    widths = tuple(shape[3] for shape in positions)
    layers = tuple(
        _count(arrays, rf"levels\.{i}\.layers\.(\d+)\..*", f"layers of level {i}")
        for i in range(levels)
    )
    columns = [
        _shape(arrays, f"levels.{i}.layers.0.attention.qkv.kernel", 2)[1]
        for i in range(levels)
    ]
    rows = _root(positions[0][1], "blocks")
    block_size = _root(positions[0][2], "tokens")
    structure: dict[str, Any] = dict(
        patch_size=patch[0],
        layers=layers,
        widths=widths,
        attention="multi_head",
    )
    if any(column != 3 * width for column, width in zip(columns, widths, strict=True)):
        # One key and one value head: width + 2 D columns.
        structure["attention"] = "multi_query"
        heads = tuple(
            2 * width // max(1, column - width)
            for column, width in zip(columns, widths, strict=True)
        )
    name = nearest(structure)
    if heads is None:
        head_dim = VARIANTS[name]["widths"][0] // VARIANTS[name]["heads"][0]
        if any(width % head_dim for width in widths):
            raise ValueError(
                f"the shapes do not show the heads, and widths {widths} are no "
                f"multiples of {name}'s {head_dim} channels a head; give heads="
            )
        heads = tuple(width // head_dim for width in widths)
    model = dict(
        name=name,
        image_size=rows * block_size * patch[0],
        block_size=block_size,
        heads=heads,
        aggregation=_aggregation(arrays),
        in_channels=patch[2],
        num_classes=_num_classes(arrays, name),
        **structure,
    )
    return short_arguments(model)


def nearest(structure: Mapping[str, Any]) -> str:
    """Name the published variant that is this structure, or the most like it.

    Args:
      structure: patch_size, layers, widths and attention.
    """

    def distance(name: str) -> tuple[float, ...]:
        variant = VARIANTS[name]
        levels = len(variant["layers"])
        pairs = zip(structure["widths"], variant["widths"], strict=False)
        ratios = sum(abs(math.log(max(a, 1) / b)) for a, b in pairs)
        depths = zip(structure["layers"], variant["layers"], strict=False)
        return (
            abs(levels - len(structure["layers"])),
            structure["patch_size"] != variant["patch_size"],
            structure["attention"] != variant["attention"],
            ratios,
            sum(abs(a - b) for a, b in depths),
        )

    return min(VARIANTS, key=distance)


def _count(names: Iterable[str], pattern: str, what: str) -> int:
    """Count the numbers a name goes through: 0, 1, ... without a gap."""
    found = {int(m[1]) for name in names if (m := re.fullmatch(pattern, name))}
    gap = next((i for i in range(len(found)) if i not in found), None)
    if gap is not None:
        raise ValueError(f"missing number {gap} of the {what}, numbered from 0")
    return len(found)


def _shape(arrays: Mapping[str, Any], name: str, axes: int) -> tuple[int, ...]:
    if name not in arrays:
        raise ValueError(f"missing {name}")
    shape = tuple(arrays[name].shape)
    if len(shape) != axes or min(shape) < 1:
        raise ValueError(f"wrong shape {name} {shape}, not {axes} axes")
    return shape


def _root(number: int, what: str) -> int:
    root = math.isqrt(number)
    if root**2 != number:
        raise ValueError(
            f"wrong shape levels.0.position_embedding: {number} {what} are no square"
        )
    return root


def _aggregation(arrays: Mapping[str, Any]) -> str:
    """Four of the six kinds have the same arrays: of these, the published one."""
    if "levels.1.aggregation.linear.bias" in arrays:
        return "max_pool"
    if "levels.1.aggregation.linear.kernel" in arrays:
        return "patch_merging"
    return DEFAULTS["aggregation"]


def _num_classes(arrays: Mapping[str, Any], name: str) -> int:
    for part in ("head.bias", "head.kernel"):
        if part in arrays and arrays[part].shape:
            return arrays[part].shape[-1]
    return 1000 if name.endswith("_224") else 10
