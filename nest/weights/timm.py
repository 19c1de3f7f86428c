"""timm's layout of NesT: other names, convolutions (out, in, H, W), linears (out, in).

The arrays fit timm's `nest_*_jx` models, whose convolution and pooling pad as ours do;
`nest_*` without jx pads otherwise and shares the names and shapes. Attention packs
query, key and value as ours does, but joins the heads it has attended with channel
before head, so that the rows of the linear after it are in another order.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from nest.weights.arrays import Arrays
from nest.weights.recognition import full_arguments

IN_LAYER = {
    "norm1": "attention_norm",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out",
    "norm2": "mlp_norm",
    "mlp.fc1": "mlp.expand",
    "mlp.fc2": "mlp.contract",
}
TO_TIMM = {ours: theirs for theirs, ours in IN_LAYER.items()}


def is_timm(arrays: Mapping[str, Any]) -> bool:
    """Whether these names are timm's rather than ours."""
    return any(name.endswith(".weight") for name in arrays)


def from_timm(theirs: Arrays) -> Arrays:
    """Rename and transpose; unknown arrays keep their names.

    What is left takes the heads, which the shapes do not show: `regroup_heads`.
    """
    ours: Arrays = {}
    for name, array in theirs.items():
        renamed = _our_name(name)
        if renamed is not None:
            module, _, last = renamed.rpartition(".")
            if last == "weight" and array.ndim == 4:
                name, array = f"{module}.kernel", array.transpose(2, 3, 1, 0)
            elif last == "weight" and array.ndim == 2:
                name, array = f"{module}.kernel", array.T
            else:
                name = f"{module}.scale" if last == "weight" else renamed
        ours[name] = array
    return ours


def to_timm(ours: Arrays, model: Mapping[str, Any]) -> Arrays:
    """Rename and transpose back.

    timm has multi-head attention only: the one key and value head of multi-query
    attention is repeated for every query head, which computes the same.

    Args:
      model: arguments of `create_model`.

    Raises:
      ValueError: timm's model has nothing of the kind.
    """
    full = full_arguments(model)
    if full["aggregation"] != "conv_max_pool":
        raise ValueError(
            f"timm has the published aggregation only, not {full['aggregation']!r}"
        )
    if full["block_size"] is not None:
        raise ValueError(
            f"timm has one block at the top, not {full['block_size']}-token blocks at "
            f"{full['image_size']} pixels"
        )
    theirs: Arrays = {}
    for name, array in ours.items():
        module, _, last = name.rpartition(".")
        if module.endswith("attention.qkv") and full["attention"] == "multi_query":
            level = int(module.split(".")[1])
            array = _repeat(array, full["heads"][level])
        if name.endswith("attention.out.kernel"):
            level = int(module.split(".")[1])
            array = _swap(array, full["heads"][level])
        if last == "kernel":
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        last = {"kernel": "weight", "scale": "weight"}.get(last, last)
        theirs[_timm_name(module, last)] = np.ascontiguousarray(array)
    return theirs


def regroup_heads(arrays: Arrays, heads: tuple[int, ...], attention: str) -> Arrays:
    """Bring what `from_timm` left in timm's order of heads into ours.

    Args:
      heads: per level.
      attention: "multi_query" also undoes the repetition of `to_timm`.

    Raises:
      ValueError: another number of levels, or key and value heads of multi-query
        attention that are not repetitions of one.
    """
    ours: Arrays = {}
    for name, array in arrays.items():
        match = re.fullmatch(
            r"levels\.(\d+)\.layers\.\d+\.attention\.(qkv|out)\.(kernel|bias)", name
        )
        if match and array.ndim in (1, 2):
            level = int(match[1])
            count = heads[level] if level < len(heads) else 0
            size = array.shape[0] if match[2] == "out" else array.shape[-1] // 3
            if not size or not count or size % count:
                raise ValueError(f"wrong shape {name} {array.shape} for heads={heads}")
            if match[2] == "qkv" and attention == "multi_query":
                array = _fold(name, array, count)
            elif match[2] == "out" and match[3] == "kernel":
                array = _swap(array, size // count)
        ours[name] = array
    return ours


def nest_arguments(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `timm.models.nest.Nest` for weights in its layout.

    Besides them, weights with the tanh form of the GELU need
    `act_layer=timm.layers.GELUTanh` to compute the same there as here.

    Args:
      model: arguments of `create_model`.
    """
    full = full_arguments(model)
    return dict(
        img_size=full["image_size"],
        in_chans=full["in_channels"],
        patch_size=full["patch_size"],
        num_levels=len(full["layers"]),
        embed_dims=full["widths"],
        num_heads=full["heads"],
        depths=full["layers"],
        num_classes=full["num_classes"],
        pad_type="same",
    )


def _swap(kernel: np.ndarray, groups: int) -> np.ndarray:
    """Exchange the two axes that the rows of (groups * rest, C) are made of."""
    rows, columns = kernel.shape
    grouped = kernel.reshape(groups, rows // groups, columns)
    return grouped.swapaxes(0, 1).reshape(rows, columns)


def _fold(name: str, array: np.ndarray, heads: int) -> np.ndarray:
    """(..., 3 H D) -> (..., (H + 2) D), where all key and value heads are the same."""
    width = array.shape[-1] // 3
    shared = [array[..., k * width :][..., : width // heads] for k in (1, 2)]
    folded = np.concatenate([array[..., :width], *shared], axis=-1)
    if not np.array_equal(_repeat(folded, heads), array):
        raise ValueError(f"{name} has key and value heads that differ")
    return folded


def _repeat(array: np.ndarray, heads: int) -> np.ndarray:
    """(..., (H + 2) D) -> (..., 3 H D)."""
    one = array.shape[-1] // (heads + 2)
    query, key, value = np.split(array, [heads * one, (heads + 1) * one], axis=-1)
    return np.concatenate([query, *[key] * heads, *[value] * heads], axis=-1)


def _our_name(name: str) -> str | None:
    """Return our name, but for the last part: weight stays weight."""
    if match := re.fullmatch(r"patch_embed\.proj\.(weight|bias)", name):
        return f"patch_embedding.{match[1]}"
    if re.fullmatch(r"(norm|head)\.(weight|bias)", name):
        return name
    if match := re.fullmatch(r"(levels\.\d+)\.pos_embed", name):
        return f"{match[1]}.position_embedding"
    match = re.fullmatch(r"(levels\.\d+)\.pool\.(conv|norm)\.(weight|bias)", name)
    if match:
        return f"{match[1]}.aggregation.{match[2]}.{match[3]}"
    match = re.fullmatch(
        r"(levels\.\d+)\.transformer_encoder\.(\d+)\.([\w.]+)\.(weight|bias)", name
    )
    if match and match[3] in IN_LAYER:
        return f"{match[1]}.layers.{match[2]}.{IN_LAYER[match[3]]}.{match[4]}"
    return None


def _timm_name(module: str, last: str) -> str:
    if last == "position_embedding":
        return f"{module}.pos_embed"
    if module == "patch_embedding":
        module = "patch_embed.proj"
    elif match := re.fullmatch(r"(levels\.\d+)\.aggregation\.(\w+)", module):
        module = f"{match[1]}.pool.{match[2]}"
    elif match := re.fullmatch(r"(levels\.\d+)\.layers\.(\d+)\.([\w.]+)", module):
        part = TO_TIMM[match[3]]
        module = f"{match[1]}.transformer_encoder.{match[2]}.{part}"
    return f"{module}.{last}"
