"""The published models by name (arXiv 2105.12723; the released code's configs)."""

from typing import Any

from flax import nnx

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
) -> NesT:
    """Build a published variant with fresh parameters.

    Args:
      name: a key of `VARIANTS`.
      num_classes: length of the logits.
      rngs: its `params` stream draws the parameters.
      **overrides: keyword arguments of `NesT` that replace the variant's own, for
        example `image_size=384`, `aggregation="patch_merging"`, `dtype=jnp.bfloat16`.

    Raises:
      ValueError: an unknown name, or a combination that does not fit together.
    """
    if name not in VARIANTS:
        raise ValueError(f"no model {name!r}; there are: {', '.join(VARIANTS)}")
    return NesT(num_classes=num_classes, rngs=rngs, **VARIANTS[name] | overrides)
