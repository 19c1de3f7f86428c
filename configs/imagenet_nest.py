"""NesT on ImageNet-1k at 224 pixels from scratch, 300 epochs (paper, table 2).

command:  python train.py --config=configs/imagenet_nest.py:base
          tiny (default), small, base
hardware: TPU or GPUs for a global batch of 1024
time:     not run
result:   not run. The paper: T/S/B 81.5/83.3/83.8 %
"""

from ml_collections import ConfigDict

from configs import classifier
from nest.errors import UserError

SIZES = ("tiny", "small", "base")


def get_config(size: str = "tiny") -> ConfigDict:
    """Return the config of a size."""
    if size not in SIZES:
        raise UserError(
            f"configs/imagenet_nest.py has no {size!r}; use {', '.join(SIZES)}"
        )
    config = classifier.get_config()
    config.model.name = f"nest_{size}_s196_224"
    config.model.image_size = 224

    config.data.dataset = "imagenet2012"
    config.data.eval_split = "validation"
    config.data.in_memory = False
    config.data.threads = 16
    config.data.eval_crop = 224 / 256
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)

    config.augment.flip = True
    config.augment.randaugment.layers = 2
    config.augment.randaugment.translate = 100.0
    config.augment.color_jitter.probability = 0.8
    config.augment.color_jitter.grey = 0.2
    config.augment.random_erasing.probability = 0.25
    config.augment.mix.mixup_alpha = 0.8
    config.augment.mix.cutmix_alpha = 1.0

    config.batch_size = 1024
    config.num_epochs = 300.0
    config.warmup_epochs = 20.0
    return config
