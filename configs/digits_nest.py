"""NesT on scikit-learn's 1,797 scanned digits (8x8, 10 classes): the quick check.

command:  python train.py --config=configs/digits_nest.py
hardware: 2 CPU cores
time:     80 s from the command to the final line
result:   99.44, 98.61, 98.89 % test accuracy with seeds 0, 1, 2
paper:    not in the paper
"""

from ml_collections import ConfigDict

from configs import classifier


def get_config() -> ConfigDict:
    """Return the config: a tree of 16, 4 and 1 blocks of 2x2 tokens over 8x8 pixels."""
    config = classifier.get_config()
    config.model.name = "nest_tiny_s16_32"
    config.model.image_size = 8
    config.model.layers = (2, 2, 2)
    config.model.widths = (48, 48, 48)
    config.model.heads = (2, 2, 2)

    config.data.source = "digits"
    config.data.dataset = "digits"
    config.augment.shift = 1

    config.batch_size = 32
    config.num_epochs = 40.0
    config.lr_per_256 = 16e-3
    config.ema_decay = 0.99
    config.eval_every_epochs = 10.0
    config.checkpoint_every_epochs = 10.0
    return config
