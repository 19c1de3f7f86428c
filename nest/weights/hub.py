"""timm's weights on the Hugging Face hub, and folders as they lie there."""

import json
import logging
import re
from pathlib import Path
from typing import Any

from nest.errors import UserError
from nest.weights.files import optional_module
from nest.weights.weights import fraction, numbers, strings

PREFIX = "hf-hub:"

# The authors' own weights as timm publishes them: today's name on the hub, then the
# files of its first release.
RELEASED = re.compile(r"nest_(tiny|small|base)_jx\.goog_in1k|jx_nest_(tiny|small|base)")


def fetch(source: str) -> Path:
    """Download, or find in the cache, the folder of "hf-hub:OWNER/NAME[@REVISION]".

    Raises:
      UserError: huggingface_hub is not installed, there is no connection, or no such
        model.
    """
    hub = optional_module(
        "huggingface_hub", f"to fetch {source}", "or give a file of the weights"
    )
    # Every retry would be told; the error below tells it once.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    name, _, revision = source.removeprefix(PREFIX).partition("@")
    try:
        for file in ("config.json", "model.safetensors"):
            path = hub.hf_hub_download(name, file, revision=revision or None)
    except Exception as error:  # The network's, the hub's and the cache's own kinds.
        reason = " ".join(str(error).split()).partition(". ")[0][:150]
        raise UserError(
            f"{source} could not be fetched ({type(error).__name__}: {reason}); check "
            f"the name, the connection and HF_HUB_OFFLINE, or give a file of the "
            f"weights"
        ) from error
    return Path(path).parent


def read_config(file: Path) -> dict[str, Any]:
    """Read what timm's config.json tells about its weights: input and class names.

    Raises:
      UserError: a model other than `nest_*_jx`.
      ValueError: a field that makes no sense.
    """
    config = json.loads(file.read_text())
    if not isinstance(config, dict):
        raise ValueError("it is no object")
    architecture = str(config.get("architecture"))
    if not re.fullmatch(r"nest_\w+_jx|jx_nest_\w+", architecture):
        pads = architecture.startswith("nest_")
        raise UserError(
            f"{file} is of timm's {architecture[:60]!r}; "
            + (
                "its pooling pads on both sides, the published one after the end: "
                "only nest_*_jx can be read"
                if pads
                else "not a NesT"
            )
        )
    about = config.get("pretrained_cfg")
    about = about if isinstance(about, dict) else config
    told: dict[str, Any] = {}
    for name in ("mean", "std"):
        if name in about:
            told[name] = numbers(name, about[name])
    if "crop_pct" in about:
        told["eval_crop"] = fraction("crop_pct", about["crop_pct"])
    names = config.get("label_names") or about.get("label_names")
    if names:
        told["class_names"] = strings("label_names", names)
    tag = f"{architecture}.{about.get('tag')}"
    if RELEASED.fullmatch(tag):
        told["gelu"] = "tanh"
    return told
