"""Transposed NesT on scikit-learn's 1,437 digits (8x8): digits from noise.

command:  python train.py --config=configs/digits_generator.py
          "digits_generator.py:conv" is the convolutional generator beside it
hardware: 2 CPU cores
time:     522 s from the command to the final line
result:   87.5 % of 1,437 samples recognised with p > 0.9 by the classifier of
          configs/digits_nest.py (held-out digits: 90.0 %), all 10 classes, Frechet
          distance in its features 0.54 (real draws: 0.11); conv: 73.2 %, 0.32
paper:    not in the paper
"""

from ml_collections import ConfigDict

from configs import gan
from nest.errors import UserError


def get_config(generator: str = "nest") -> ConfigDict:
    """Return the config of "nest" or "conv", of about the same size."""
    config = gan.get_config()
    config.model.image_size = 8
    if generator == "nest":
        config.model.generator.name = "nest_generator_16"
        config.model.generator.layers = (2, 2, 2)
        config.model.generator.widths = (128, 64, 32)
        config.model.generator.heads = (2, 2, 2)
    elif generator == "conv":
        config.model.generator.name = "sagan_64"
        config.model.generator.widths = (224, 128, 64)
    else:
        raise UserError(
            f"configs/digits_generator.py has no {generator!r}; use nest or conv"
        )
    config.model.generator.noise_size = 32
    config.model.discriminator.widths = (32, 64)

    config.data.source = "digits"
    config.data.dataset = "digits"

    config.r1_gamma = 0.1
    config.r1_every = 8
    config.batch_size = 32
    config.num_steps = 8000
    config.generator_lr = 5e-4
    config.discriminator_lr = 4e-3
    config.ema_decay = 0.995

    config.num_samples = 100
    config.evaluation.num_samples = 1437  # as many as training images
    config.evaluation.classifier = "runs/digits_nest"
    return config
