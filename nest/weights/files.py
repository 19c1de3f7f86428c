"""Arrays from and to files: safetensors both ways, PyTorch's only in."""

import contextlib
import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from nest.errors import UserError
from nest.weights.arrays import Arrays

# Where training scripts keep the parameters in a .pth, the average first.
STATE_DICTS = ("state_dict_ema", "model_ema", "state_dict", "model")


def read_safetensors(file: Path) -> tuple[Arrays, dict[str, str]]:
    """Read arrays and metadata.

    Raises:
      UserError: the file is damaged.
    """
    try:
        with safetensors.safe_open(file, framework="np") as content:
            return content.get_tensors(), content.metadata() or {}
    except (safetensors.SafetensorError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(
            f"{file} is no safetensors file, or damaged ({reason}); get it again"
        ) from error


def write_safetensors(file: Path, arrays: Arrays, metadata: dict[str, str]) -> None:
    """Write in one piece: `file` holds all of it or is as it was before.

    Raises:
      UserError: the disk does not take it.
    """
    dense = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content = safetensors.numpy.save(dense, metadata=metadata)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        if file.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        with part.open("xb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except OSError as error:
        raise UserError(
            f"{file} cannot be written ({error.strerror}); nothing is changed"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def read_torch(file: Path) -> Arrays:
    """Read the parameters of a .pth or .bin file.

    PyTorch unpickles with `weights_only`: tensors and plain containers; a file that
    asks for anything else is refused and nothing of it is run.

    Raises:
      UserError: PyTorch is not installed, or the file holds something else.
    """
    torch = optional_module("torch", f"to read {file}", "or convert it to .safetensors")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (MemoryError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # pickle, zip and torch each raise their own.
        raise UserError(
            f"{file} is not read: it is damaged, or holds more than tensors and could "
            f"run code when opened ({type(error).__name__}); get a .safetensors file"
        ) from error
    for name in STATE_DICTS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no parameters, but a {type(content).__name__}")
    return {
        str(name).removeprefix("module."): _numpy(torch, tensor)
        for name, tensor in content.items()
        if isinstance(tensor, torch.Tensor)
    }


def optional_module(name: str, purpose: str, otherwise: str) -> ModuleType:
    """Import a package that only some files need.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{purpose}, install {name} (pip install {name}), {otherwise}"
        ) from error


def _numpy(torch: ModuleType, tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    if tensor.is_floating_point():
        tensor = tensor.to(torch.float32)  # numpy has no bfloat16
    return tensor.cpu().resolve_conj().numpy()
