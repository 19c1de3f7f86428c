"""Weights from any file or folder that holds a NesT."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from nest.errors import UserError
from nest.models.variants import create_model
from nest.training.workdir import has_checkpoints
from nest.weights import authors, hub, timm, workdirs
from nest.weights.arrays import (
    Arrays,
    abstract_model,
    compare,
    matches,
    parameters,
    unflatten,
)
from nest.weights.files import read_safetensors, read_torch
from nest.weights.recognition import (
    full_arguments,
    published_input,
    recognize,
    short_arguments,
)
from nest.weights.weights import Weights, parse_metadata

METADATA = "nest"  # the key of ours in a safetensors file

# What the shapes show; a file that tells otherwise contradicts itself.
SHOWN_BY_SHAPES = (
    "image_size",
    "num_classes",
    "patch_size",
    "block_size",
    "layers",
    "widths",
    "heads",
    "in_channels",
)


@dataclasses.dataclass
class Found:
    """The arrays of a source by our names, and what it tells besides."""

    arrays: Arrays
    told: dict[str, Any]


def read_weights(
    source: str | Path,
    *,
    gelu: str | None = None,
    layers: tuple[int, ...] | None = None,
    heads: tuple[int, ...] | None = None,
    allow: Iterable[str] = (),
) -> Weights:
    """Read weights, and recognize their model.

    The GELU. The published weights were trained with the tanh form, and the released
    code, and this project, evaluate them with it; timm evaluates them, and trains its
    own, with the exact form. So a file is taken with the form it was trained with, as
    far as that is known: the one it tells; "tanh" for the authors' checkpoints and for
    the authors' weights under timm's names for them (nest_*_jx.goog_in1k, and
    jx_nest_* in the name of a file); "exact" for any other file of timm's layout,
    which timm may have trained. Where the file does not tell, it counts as assumed.
    `gelu="exact"` gives timm's logits for timm's files.

    Args:
      source: an authors' checkpoint (a file ckpt-N.flax or ckpt.N, exactly that one, or
        a folder, its newest); a .safetensors file of ours or timm's; a .pth or .bin
        file of timm's, with PyTorch installed; "hf-hub:timm/nest_tiny_jx.goog_in1k",
        with huggingface_hub installed; or a workdir of ours, "WORKDIR[:best|latest|
        STEP]" (latest; its average where it has one).
      gelu: "tanh" or "exact", in place of the file's.
      layers, heads: per level, where the shapes leave a choice: layers in the authors'
        checkpoints with levels of one width, heads in timm's.
      allow: names, with * for anything, that may be missing (then freshly drawn), left
        over or of another shape; names are ours, and the file's for those left over.

    Raises:
      UserError: one line: there is nothing to read, it is damaged, it is no NesT, or
        something in it is missing, left over or of another shape.
    """
    source = str(source)
    try:
        found = _open(source, layers, heads)
        return _complete(found, source, gelu=gelu, heads=heads, allow=tuple(allow))
    except ValueError as error:
        raise UserError(f"{source}: {error}") from error
    except OSError as error:
        raise UserError(f"{source} cannot be read ({error.strerror})") from error


def _open(
    source: str, layers: tuple[int, ...] | None, heads: tuple[int, ...] | None
) -> Found:
    if source.startswith(hub.PREFIX):
        return _open_timm_folder(hub.fetch(source), source, heads)
    path, which = workdirs.split_checkpoint(source)
    if not path.exists():
        raise UserError(
            f"no file or folder {path}; on the hub, names begin with {hub.PREFIX}"
        )
    if path.is_dir():
        if has_checkpoints(path):
            return Found(*workdirs.read_workdir(path, which))
        if (path / "config.json").exists() and (path / "model.safetensors").exists():
            return _open_timm_folder(path, source, heads)
        newest = authors.newest_checkpoint(path)
        if newest is None:
            raise UserError(
                f"no weights in {path}: a workdir has checkpoints/, an authors' folder "
                f"ckpt-N.flax, a folder of timm's config.json and model.safetensors"
            )
        return _open_authors(newest, layers)
    if path.suffix == ".safetensors":
        return _open_safetensors(path, heads)
    if path.suffix in (".pth", ".pt", ".bin"):
        return _from_timm(read_torch(path), {"source": path.name}, heads)
    if path.suffix == ".flax" or authors.CHECKPOINT.fullmatch(path.name):
        return _open_authors(path, layers)
    raise UserError(
        f"{path} is of no known kind; known are .safetensors, .flax, ckpt.N, .pth and "
        f".bin files, workdirs and {hub.PREFIX}"
    )


def _open_authors(file: Path, layers: tuple[int, ...] | None) -> Found:
    arrays, told = authors.read_checkpoint(file, layers)
    return Found(arrays, told | {"source": file.name, "gelu": "tanh"})


def _open_safetensors(file: Path, heads: tuple[int, ...] | None) -> Found:
    arrays, metadata = read_safetensors(file)
    told: dict[str, Any] = {"source": file.name}
    if METADATA in metadata:
        try:
            told = parse_metadata(metadata[METADATA])
        except ValueError as error:
            raise ValueError(f"its metadata is damaged: {error}") from error
    if timm.is_timm(arrays):
        return _from_timm(arrays, told, heads)
    return Found(arrays, told)


def _open_timm_folder(
    folder: Path, source: str, heads: tuple[int, ...] | None
) -> Found:
    try:
        told = hub.read_config(folder / "config.json")
    except ValueError as error:
        raise ValueError(f"its config.json is damaged: {error}") from error
    found = _open_safetensors(folder / "model.safetensors", heads)
    return Found(found.arrays, found.told | {"source": source} | told)


def _from_timm(
    theirs: Arrays, told: dict[str, Any], heads: tuple[int, ...] | None
) -> Found:
    arrays = timm.from_timm(theirs)
    if "model" in told:
        full = full_arguments(told["model"])
    else:
        full = full_arguments(recognize(arrays, heads))
        if not hub.RELEASED.search(told["source"]):
            told = {"assumed_gelu": "exact"} | told
    return Found(timm.regroup_heads(arrays, full["heads"], full["attention"]), told)


def _complete(
    found: Found,
    source: str,
    *,
    gelu: str | None,
    heads: tuple[int, ...] | None,
    allow: tuple[str, ...],
) -> Weights:
    """Recognize the model, check every array, and fill in what the file leaves out."""
    told = dict(found.told)
    assumed = [*told.get("assumed", ())]
    known_heads = told.get("heads", heads)
    if "model" in told:
        full = full_arguments(told["model"])
        known_heads = full["heads"]
    model = recognize(found.arrays, known_heads)
    if "model" in told:
        shown = full_arguments(model)
        wrong = [
            f"{name}={full.get(name)} is told, {shown[name]} are the shapes'"
            for name in SHOWN_BY_SHAPES
            if full.get(name) != shown[name]
            and not (name == "num_classes" and matches("head.kernel", allow))
        ]
        if wrong:
            raise ValueError(f"its arrays are not of the model it tells: {wrong[0]}")
        model = told["model"]
    elif known_heads is None and full_arguments(model)["attention"] == "multi_head":
        assumed.append("heads")
    if gelu is not None or "gelu" in told:
        model = model | {"gelu": gelu or told["gelu"]}
    elif "model" not in told:
        model = model | {"gelu": told.get("assumed_gelu", "tanh")}
        assumed.append("gelu")

    fields: dict[str, Any] = {}
    for name, value in published_input(model["name"], model["num_classes"]).items():
        if name not in told:
            assumed.append(name)
        fields[name] = told.get(name, value)
    channels = full_arguments(model)["in_channels"]
    for name in ("mean", "std"):
        if len(fields[name]) != channels or min(fields["std"]) <= 0:
            raise ValueError(
                f"{name} {fields[name]} does not fit {channels} channels, or is not "
                f"positive"
            )
    names = told.get("class_names")
    if names is not None and len(names) != model["num_classes"]:
        raise ValueError(
            f"it names {len(names)} classes and has {model['num_classes']}"
        )

    model = short_arguments(model)
    wanted = parameters(abstract_model(model))
    report = compare(found.arrays, wanted, allow)
    arrays = {name: _float32(name, found.arrays[name]) for name in report.loaded}
    if report.new:
        fresh = parameters(create_model(**model, rngs=nnx.Rngs(0)))
        arrays |= {name: np.asarray(fresh[name]) for name in report.new}
    return Weights(
        params=unflatten(arrays),
        model=model,
        class_names=names,
        source=told.get("source", source),
        assumed=tuple(dict.fromkeys(assumed)),
        report=report,
        **fields,
    )


def _float32(name: str, array: np.ndarray) -> np.ndarray:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name} holds {array.dtype}, not floating-point numbers")
    return np.array(array, np.float32, order="C")
