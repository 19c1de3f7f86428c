"""The generators of the paper's comparison (its section 4.4): a literal table.

The paper gives numbers of parameters for 64x64 pixels: 74.4M for the transposed NesT,
82.6M for TransGAN, 77.8M for SAGAN without attention; nothing else is recorded.
Differs from the paper: unknown, hence chosen to come within 2 % of these numbers, are
the noise (128 or 256), the layers per level (5, 3, 2, 2), heads (4) and SAGAN's widths.
"""

from typing import Any

from flax import nnx

from nest.models.conv_generator import ConvGenerator
from nest.models.generator import Generator

GENERATORS = {
    # The widths are quartered by pixel shuffle; every level has blocks of 8x8 tokens.
    "nest_generator_16": dict(
        image_size=16,
        noise_size=128,
        layers=(5, 3),
        widths=(1024, 256),
        heads=(4, 4),
    ),
    "nest_generator_32": dict(
        image_size=32,
        noise_size=128,
        layers=(5, 3, 2),
        widths=(1024, 256, 64),
        heads=(4, 4, 4),
    ),
    "nest_generator_64": dict(
        image_size=64,
        noise_size=128,
        layers=(5, 3, 2, 2),
        widths=(1024, 256, 64, 16),
        heads=(4, 4, 4, 4),
    ),
    "nest_generator_128": dict(
        image_size=128,
        noise_size=128,
        layers=(5, 3, 2, 2),
        widths=(1024, 256, 64, 16),
        heads=(4, 4, 4, 4),
        patch_size=2,
    ),
    "transgan_64": dict(
        image_size=64,
        noise_size=256,
        layers=(5, 3, 2, 2),
        widths=(1024, 256, 64, 16),
        heads=(4, 4, 4, 4),
        nested=False,
    ),
    "sagan_64": dict(
        image_size=64,
        noise_size=128,
        widths=(1600, 1600, 800, 400, 200),
    ),
}


def create_generator(
    name: str, *, rngs: nnx.Rngs, **overrides: Any
) -> Generator | ConvGenerator:
    """Build a generator with fresh parameters.

    Args:
      name: a key of `GENERATORS`.
      rngs: its `params` stream draws the parameters.
      **overrides: arguments of `Generator` (of `ConvGenerator` for SAGAN's) that
        replace those of the table.

    Raises:
      ValueError: an unknown name, an argument that this generator has not, or a
        combination that does not fit together.
    """
    if name not in GENERATORS:
        raise ValueError(f"no generator {name!r}; there are: {', '.join(GENERATORS)}")
    if not name.startswith("sagan"):
        return Generator(rngs=rngs, **GENERATORS[name] | overrides)
    transformers = (
        "layers",
        "heads",
        "patch_size",
        "upsampling",
        "attention",
        "nested",
        "long_attention",
    )
    foreign = [field for field in transformers if field in overrides]
    if foreign:
        raise ValueError(
            f"{name} is convolutional and has no {', '.join(foreign)}; remove that"
        )
    return ConvGenerator(rngs=rngs, **GENERATORS[name] | overrides)
