"""NesT on ImageNet-1k at 224 pixels from scratch, 300 epochs (paper, table 2).

command:  python train.py --config=configs/imagenet_nest.py:base
          tiny (default), small, base
hardware: TPU or GPUs for a global batch of 1024
time:     not run
result:   not run. The paper: T/S/B 81.5/83.3/83.8 %
"""

from ml_collections import ConfigDict

from configs import classifier, recipes
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
    recipes.set_imagenet(config)
    return config
