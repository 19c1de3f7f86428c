"""The published models by name (arXiv 2105.12723; the released code's configs), and the
baselines that the paper compares with."""

import inspect
from typing import Any

from flax import nnx

from nest.models.baselines.variants import BASELINES
from nest.models.classifier import NesT

# The published models. Per level, bottom first: transformer layers, width, heads.
VARIANTS: dict[str, dict[str, Any]] = {
    "nest_tiny_s16_32": dict(
        image_size=32,
        patch_size=1,
        layers=(3, 3, 3, 3),
        widths=(192, 192, 192, 192),
        heads=(3, 3, 3, 3),
        attention="multi_query",
        drop_path=0.1,
    ),
    "nest_small_s16_32": dict(
        image_size=32,
        patch_size=1,
        layers=(3, 3, 3, 3),
        widths=(384, 384, 384, 384),
        heads=(6, 6, 6, 6),
        attention="multi_query",
        drop_path=0.1,
    ),
    "nest_base_s16_32": dict(
        image_size=32,
        patch_size=1,
        layers=(3, 3, 3, 3),
        widths=(768, 768, 768, 768),
        heads=(12, 12, 12, 12),
        attention="multi_query",
        drop_path=0.1,
    ),
    "nest_tiny_s196_224": dict(
        image_size=224,
        patch_size=4,
        layers=(2, 2, 8),
        widths=(96, 192, 384),
        heads=(3, 6, 12),
        attention="multi_head",
        drop_path=0.2,
    ),
    "nest_small_s196_224": dict(
        image_size=224,
        patch_size=4,
        layers=(2, 2, 20),
        widths=(96, 192, 384),
        heads=(3, 6, 12),
        attention="multi_head",
        drop_path=0.3,
    ),
    "nest_base_s196_224": dict(
        image_size=224,
        patch_size=4,
        layers=(2, 2, 20),
        widths=(128, 256, 512),
        heads=(4, 8, 16),
        attention="multi_head",
        drop_path=0.5,
    ),
}


def create_model(
    name: str, *, num_classes: int = 1000, rngs: nnx.Rngs, **overrides: Any
) -> nnx.Module:
    """Build a published model with fresh parameters: a NesT or a baseline.

    Args:
      name: a key of `VARIANTS` or `BASELINES`.
      num_classes: length of the logits.
      rngs: its `params` stream draws the parameters.
      **overrides: keyword arguments of the model that replace its own, for example
        `image_size=384`, `aggregation="patch_merging"`, `dtype=jnp.bfloat16`.

    Raises:
      ValueError: an unknown name, an argument that the model does not have, or a
        combination that does not fit together.
    """
    if name in VARIANTS:
        model, arguments = NesT, VARIANTS[name]
    elif name in BASELINES:
        model, arguments = BASELINES[name]
    else:
        names = ", ".join([*VARIANTS, *BASELINES])
        raise ValueError(f"no model {name!r}; there are: {names}")
    known = inspect.signature(model.__init__).parameters
    foreign = [argument for argument in overrides if argument not in known]
    if foreign:
        own = [argument for argument in known if argument not in ("self", "rngs")]
        raise ValueError(
            f"{name} has no {', '.join(foreign)}; leave that None (it has "
            f"{', '.join(own)})"
        )
    return model(num_classes=num_classes, rngs=rngs, **arguments | overrides)
