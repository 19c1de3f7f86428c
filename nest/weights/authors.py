"""The authors' checkpoints: flax msgpack of {step, optimizer: {target, state}, ...}.

Theirs keep query, key and value apart, with an axis for the heads, and number the
transformer layers through all levels.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import serialization

from nest.errors import UserError
from nest.weights.arrays import Arrays

# ckpt-312.flax as their trainer writes it, ckpt.39 as they published theirs.
CHECKPOINT = re.compile(r"ckpt[-.](\d+)(\.flax)?")

RENAMED = (
    (r"PatchEmbedding_0/Conv_0/(kernel|bias)", "patch_embedding.{0}"),
    (r"PositionEmbedding_(\d+)/pos_embedding", "levels.{0}.position_embedding"),
    (r"LayerNorm_0/(scale|bias)", "norm.{0}"),
    (r"Dense_0/(kernel|bias)", "head.{0}"),
)
RENAMED_POOL = {"Conv_0": "conv", "LayerNorm_0": "norm"}
RENAMED_IN_LAYER = {
    "LayerNorm_0": "attention_norm",
    "LayerNorm_1": "mlp_norm",
    "MlpBlock_0/Dense_0": "mlp.expand",
    "MlpBlock_0/Dense_1": "mlp.contract",
}


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint with the highest number in a folder, if there is one.

    Their trainer keeps one folder per host, all the same: the first host's is searched
    too.
    """
    files = [
        (int(match[1]), file)
        for pattern in ("*", "checkpoints-0/*")
        for file in folder.glob(pattern)
        if (match := CHECKPOINT.fullmatch(file.name)) and file.is_file()
    ]
    return max(files)[1] if files else None


def read_checkpoint(
    file: Path, layers: tuple[int, ...] | None = None
) -> tuple[Arrays, dict[str, Any]]:
    """Read one checkpoint file; the optimizer's state is not looked at.

    Args:
      layers: see `convert`.

    Returns:
      The arrays by our names, and what else the file tells: see `convert`.

    Raises:
      UserError: the file is damaged.
      ValueError: its arrays are not those of a NesT.
    """
    content = file.read_bytes()
    try:
        # Only msgpack's own types and arrays of numbers: numpy makes no objects from a
        # buffer, so that nothing in the file is run.
        tree = serialization.msgpack_restore(content)
    except MemoryError:
        raise
    except Exception as error:  # msgpack, numpy and flax each raise their own.
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(
            f"{file} is no checkpoint of the authors' trainer, or damaged ({reason}); "
            f"get it again"
        ) from error
    for path in (("optimizer", "target"), ("params",), ("target",)):
        inner = tree
        for key in path:
            inner = inner.get(key) if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping):
            tree = inner
    if not isinstance(tree, Mapping):
        raise UserError(f"{file} holds no parameters, but a {type(tree).__name__}")
    return convert(_flatten(tree), layers)


def convert(
    theirs: Arrays, layers: tuple[int, ...] | None = None
) -> tuple[Arrays, dict[str, Any]]:
    """Rename and repack the arrays of a checkpoint; unknown ones keep their names.

    Args:
      theirs: name, with / between its parts, -> array.
      layers: transformer layers per level, bottom first. None tells them from the
        widths; levels of the same width share their layers evenly, as published.

    Returns:
      The arrays by our names, and {"heads": per level} with "assumed": ("layers",)
      where they were shared out.

    Raises:
      ValueError: an array of another shape than theirs, or layers that do not add up.
    """
    ours: Arrays = {}
    in_layers: dict[int, Arrays] = {}
    for name, array in theirs.items():
        if match := re.fullmatch(r"EncoderNDBlock_(\d+)/(.*)", name):
            in_layers.setdefault(int(match[1]), {})[match[2]] = array
        elif match := re.fullmatch(r"ConvPool_(\d+)/(\w+)/(kernel|bias|scale)", name):
            part = RENAMED_POOL.get(match[2], match[2])
            ours[f"levels.{int(match[1]) + 1}.aggregation.{part}.{match[3]}"] = array
        else:
            for pattern, renamed in RENAMED:
                if match := re.fullmatch(pattern, name):
                    name = renamed.format(*match.groups())
            ours[name] = array
    if not in_layers:
        return ours, {}

    widths = []
    while (name := f"levels.{len(widths)}.position_embedding") in ours:
        widths.append(ours[name].shape[-1] if ours[name].ndim else 0)
    layer_widths = [_width(in_layers.get(i, {}), i) for i in range(len(in_layers))]
    assumed = ()
    if layers is None:
        layers, shared = _share_out(widths, layer_widths)
        assumed = ("layers",) if shared else ()
    if len(layers) != len(widths) or sum(layers) != len(layer_widths):
        raise ValueError(
            f"it has {len(widths)} levels and {len(layer_widths)} transformer layers, "
            f"not layers={layers}"
        )
    heads, number = [], 0
    for i, depth in enumerate(layers):
        for j in range(depth):
            arrays, count = _convert_layer(in_layers[number], number)
            ours |= {f"levels.{i}.layers.{j}.{key}": x for key, x in arrays.items()}
            number += 1
        heads.append(count)
    return ours, {"heads": tuple(heads), "assumed": assumed}


def _flatten(tree: Mapping[Any, Any]) -> Arrays:
    """Flatten without recursion: the depth is the file's choice."""
    flat, stack = {}, [("", tree)]
    while stack:
        prefix, inner = stack.pop()
        for key, value in inner.items():
            if isinstance(value, Mapping):
                stack.append((f"{prefix}{key}/", value))
            else:
                flat[f"{prefix}{key}"] = np.asarray(value)
    return dict(sorted(flat.items()))


def _width(layer: Arrays, number: int) -> int:
    scale = layer.get("LayerNorm_0/scale")
    if scale is None or scale.ndim != 1:
        raise ValueError(f"missing EncoderNDBlock_{number}/LayerNorm_0/scale")
    return len(scale)


def _share_out(
    widths: list[int], layer_widths: list[int]
) -> tuple[tuple[int, ...], bool]:
    """Share the layers out over the levels; True where the widths left a choice."""
    layers = []
    for width in widths:
        depth, rest = divmod(layer_widths.count(width), widths.count(width))
        if rest or not depth:
            raise ValueError(
                f"its {layer_widths.count(width)} layers of width {width} do not "
                f"divide over {widths.count(width)} levels; give layers="
            )
        layers.append(depth)
    return tuple(layers), len(set(widths)) < len(widths)


def _convert_layer(layer: Arrays, number: int) -> tuple[Arrays, int]:
    """Convert one transformer layer: its arrays by our names, and its heads."""
    ours: Arrays = {}
    attention: Arrays = {}
    for name, array in layer.items():
        module, _, last = name.rpartition("/")
        if match := re.fullmatch(r"Multi(?:Head|Query)Attention_0/(.*)", name):
            attention[match[1]] = array
        else:
            renamed = RENAMED_IN_LAYER.get(module, module)
            ours[f"{renamed}.{last}" if renamed else last] = array

    def take(name: str, axes: int) -> np.ndarray:
        if name not in attention or attention[name].ndim != axes:
            raise ValueError(
                f"missing or of another shape: EncoderNDBlock_{number}'s {name} in its "
                f"attention"
            )
        return attention.pop(name)

    kernel = take("DenseGeneral_0/kernel", 3)  # (C, H, D)
    heads, head_dim = kernel.shape[1:]
    parts = {"kernel": [kernel], "bias": [take("DenseGeneral_0/bias", 2)]}
    for last, axes in (("kernel", 3), ("bias", 2)):
        if "Dense_0/kernel" in attention or "Dense_0/bias" in attention:
            # One head for all queries: its key and value side by side.
            parts[last].append(take(f"Dense_0/{last}", axes - 1))
        else:
            both = take(f"DenseGeneral_1/{last}", axes)  # (C, H, 2 D), key first
            parts[last] += [both[..., :head_dim], both[..., head_dim:]]
        joined = [x.reshape(*kernel.shape[: axes - 2], -1) for x in parts[last]]
        ours[f"attention.qkv.{last}"] = np.concatenate(joined, axis=-1)
    out = take("proj_kernel", 3)  # (H, D, C)
    ours["attention.out.kernel"] = out.reshape(-1, out.shape[-1])
    ours["attention.out.bias"] = take("bias", 1)
    ours |= {f"attention.{name}": array for name, array in attention.items()}
    return ours, heads
