"""Smaller editions of the tables: the same comparison on another dataset and budget.

A scale replaces dataset, sizes and length of every row; what the row changes, and the
rest of its recipe, stays. Models of three sizes keep their order: they differ in width.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from nest.errors import UserError
from nest.tables.table import Published, Row


@dataclasses.dataclass(frozen=True)
class Scale:
    """A smaller edition.

    Attributes:
      name, title: what it is asked for by, and what the tables' titles say.
      epochs: in the place of 300; other lengths in proportion.
      warmup: share of the epochs.
      classes, examples: of the training split.
      boxes: whether the dataset knows where its objects are.
      overrides: fields of every config.
      models: more of them, by the beginning of the model's name.
    """

    name: str
    title: str
    epochs: float
    warmup: float
    classes: int
    examples: int
    boxes: bool
    overrides: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]


_INPUT = {
    "data.train_split": "train",
    "data.eval_split": "test",
    "data.in_memory": True,
    "data.eval_crop": 1.0,
    "data.mean": (0.5, 0.5, 0.5),
    "data.std": (0.5, 0.5, 0.5),
    "augment.flip": False,  # a mirrored digit is none
    "augment.color_jitter.probability": 0.0,  # digits are grey
    "augment.color_jitter.grey": 0.0,
    "batch_size": 32,
    "ema_decay": 0.99,
}


def _nest(
    patch_size: int, widths: tuple[int, ...], heads: tuple[int, ...]
) -> dict[str, Any]:
    return {
        "model.patch_size": patch_size,
        "model.layers": (2, 2, 2),
        "model.widths": widths,
        "model.heads": heads,
        "model.drop_path": 0.0,
    }


def _deit(patch_size: int, width: int, *, heads: int) -> dict[str, Any]:
    return {
        "model.patch_size": patch_size,
        "model.layers": (6,),
        "model.widths": (width,),
        "model.heads": (heads,),
        "model.drop_path": 0.0,
    }


SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            "digits",
            "SMALL SCALE: 1,437 scanned digits of 8x8 pixels, small models",
            epochs=12.0,
            warmup=0.1,
            classes=10,
            examples=1437,
            boxes=False,
            overrides=_INPUT
            | {
                "data.source": "digits",
                "data.dataset": "digits",
                "model.image_size": 8,
                "augment.shift": 1,
                "augment.randaugment.translate": 2.5,
                "lr_per_256": 16e-3,
            },
            models={
                # A tree of 16, 4 and 1 blocks of 2x2 tokens.
                "nest_tiny": _nest(1, (48, 48, 48), (2, 2, 2)),
                "nest_small": _nest(1, (64, 64, 64), (2, 2, 2)),
                "nest_base": _nest(1, (96, 96, 96), (4, 4, 4)),
                "deit_tiny": _deit(2, 48, heads=2),
                "deit_small": _deit(2, 64, heads=2),
                "deit_base": _deit(2, 96, heads=4),
                "swin": {
                    "model.patch_size": 1,
                    "model.block_size": 2,
                    "model.layers": (2, 2),
                    "model.widths": (32, 64),
                    "model.heads": (2, 4),
                    "model.drop_path": 0.0,
                },
                "resnet": {
                    "model.image_size": 32,  # the least; digits are enlarged
                    "model.layers": (1, 1, 1, 1),
                    "model.widths": (16, 32, 64, 128),
                },
                "wide_resnet": {
                    "model.layers": (1, 1, 1),
                    "model.widths": (16, 32, 64),
                },
            },
        ),
        Scale(
            "clutter",
            "SMALL SCALE: scanned digits amid clutter on 5,748 canvases of 32x32 "
            "pixels, small models",
            epochs=16.0,
            warmup=0.125,
            classes=10,
            examples=5748,
            boxes=True,
            overrides=_INPUT
            | {
                "data.source": "clutter",
                "data.dataset": "32x4",
                "model.image_size": 32,
                "augment.shift": 2,
                "augment.randaugment.translate": 10.0,
                "batch_size": 64,
                "lr_per_256": 8e-3,
            },
            models={
                # A tree of 16, 4 and 1 blocks of 4x4 tokens.
                "nest_tiny": _nest(2, (48, 48, 96), (2, 2, 4)),
                "nest_small": _nest(2, (64, 64, 128), (2, 2, 4)),
                "nest_base": _nest(2, (96, 96, 192), (4, 4, 8)),
                "deit_tiny": _deit(4, 64, heads=2),
                "deit_small": _deit(4, 96, heads=4),
                "deit_base": _deit(4, 128, heads=4),
                "swin": {
                    "model.patch_size": 2,
                    "model.block_size": 4,
                    "model.layers": (2, 2, 2),
                    "model.widths": (32, 64, 128),
                    "model.heads": (2, 4, 8),
                    "model.drop_path": 0.0,
                },
                "resnet": {
                    "model.layers": (1, 1, 1, 1),
                    "model.widths": (16, 32, 64, 128),
                },
                "wide_resnet": {
                    "model.layers": (1, 1, 1),
                    "model.widths": (16, 32, 64),
                },
            },
        ),
    )
}


def scaled(row: Row, scale: Scale, *, model: str) -> Row:
    """Return the row's smaller edition.

    Args:
      model: the name of the row's model.

    Raises:
      UserError: the row needs boxes, which the scale has not.
    """
    if row.method and not scale.boxes:
        raise UserError(
            f"the row {row.name} needs boxes, which --scale={scale.name} has not; use "
            f"--scale=clutter"
        )
    fits = [prefix for prefix in scale.models if model.startswith(prefix)]
    epochs = scale.epochs * row.epochs / 300
    every = {
        "num_epochs": epochs,
        "warmup_epochs": scale.warmup * epochs,
        "eval_every_epochs": epochs,
        "checkpoint_every_epochs": max(1.0, epochs / 4),
    }
    kept = {
        field: value for field, value in row.overrides.items() if field not in every
    }
    return dataclasses.replace(
        row,
        overrides=dict(scale.overrides) | dict(scale.models[fits[0]]) | every | kept,
        parameters=Published(),
        multiply_adds=Published(),
        classes=scale.classes,
        examples=scale.examples,
        epochs=epochs,
    )
