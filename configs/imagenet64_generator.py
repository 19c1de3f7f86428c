"""Transposed NesT on ImageNet at 64x64, unconditional (paper, section 4.4).

command:  python train.py --config=configs/imagenet64_generator.py
          "imagenet64_generator.py:transgan" and ":sagan": the paper's comparison
hardware: 8 GPUs or a TPU slice, say; batch 256 over all devices
time:     not run
result:   not run. The paper reports 74.4M parameters and 523.7 images/s of generation
          (second-hand); see scripts/benchmark_generators.py

Unknown, hence as in the same group's HiT-GAN: loss, discriminator, optimizer, R1,
average and batch (configs/gan.py); the number of steps is ours.
"""

from ml_collections import ConfigDict

from configs import gan
from nest.errors import UserError

NAMES = {
    "nest": "nest_generator_64",
    "transgan": "transgan_64",
    "sagan": "sagan_64",
}


def get_config(generator: str = "nest") -> ConfigDict:
    """Return the config of the generator "nest", "transgan" or "sagan"."""
    if generator not in NAMES:
        raise UserError(
            f"configs/imagenet64_generator.py has no {generator!r}; use one of "
            f"{', '.join(NAMES)}"
        )
    config = gan.get_config()
    config.model.image_size = 64
    config.model.generator.name = NAMES[generator]
    config.model.discriminator.widths = (128, 256, 512, 512, 512)

    config.data.dataset = "imagenet2012"
    config.data.eval_split = "validation"
    config.data.in_memory = False
    config.data.threads = 16
    config.data.crop_area = (0.8, 1.0)
    config.data.flip = True

    config.num_steps = 500_000
    config.evaluation.num_real = 50_000
    return config
