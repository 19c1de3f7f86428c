"""NesT on scanned digits at known boxes amid clutter: to measure explanations.

command:  python train.py --config=configs/digits_clutter.py, then
          python scripts/evaluate_explanations.py, and for the localization
          python evaluate.py --config=configs/digits_clutter.py
hardware: 2 CPU cores
time:     8 min from the command to the final line
result:   98.06 % test accuracy with seed 0
paper:    not in the paper; its localization table is on ImageNet
"""

from ml_collections import ConfigDict

from configs import classifier


def get_config() -> ConfigDict:
    """Return the config: a tree of 16, 4 and 1 blocks of 4x4 tokens of 2x2 pixels."""
    config = classifier.get_config()
    config.model.name = "nest_tiny_s16_32"
    config.model.image_size = 32
    config.model.patch_size = 2
    config.model.layers = (2, 2, 2)
    config.model.widths = (48, 48, 96)
    config.model.heads = (2, 2, 4)

    config.data.source = "clutter"
    config.data.dataset = "32x4"
    config.augment.shift = 2

    config.batch_size = 64
    config.num_epochs = 16.0
    config.warmup_epochs = 2.0
    config.lr_per_256 = 8e-3
    config.ema_decay = 0.99
    config.eval_every_epochs = 2.0
    config.checkpoint_every_epochs = 4.0

    config.localization.method = "cam"
    return config
