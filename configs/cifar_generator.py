"""Transposed NesT on CIFAR-10 at 32x32.

command:  python train.py --config=configs/cifar_generator.py
          "cifar_generator.py:sagan" is the convolutional generator beside it
hardware: one GPU
time:     not run
result:   not run
paper:    not in the paper, which generates ImageNet at 64x64
"""

from ml_collections import ConfigDict

from configs import gan
from nest.errors import UserError


def get_config(generator: str = "nest") -> ConfigDict:
    """Return the config of the generator "nest" or "sagan"."""
    if generator not in ("nest", "sagan"):
        raise UserError(
            f"configs/cifar_generator.py has no {generator!r}; use nest or sagan"
        )
    config = gan.get_config()
    config.model.image_size = 32
    if generator == "nest":
        config.model.generator.name = "nest_generator_32"
    else:
        config.model.generator.name = "sagan_64"
        config.model.generator.widths = (1600, 1600, 800, 400)
    config.model.discriminator.widths = (128, 256, 512, 512)

    config.data.dataset = "cifar10"
    config.data.flip = True

    config.r1_gamma = 0.1
    config.augmentations = ("color", "translation", "cutout")
    config.batch_size = 64
    config.num_steps = 200_000
    config.generator_lr = 2e-4
    return config
