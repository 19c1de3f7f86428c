"""NesT on CIFAR-10 or CIFAR-100 from scratch, 300 epochs (paper, table 1).

command:  python train.py --config=configs/cifar_nest.py:small
          tiny (default), small, base; tiny_100, small_100, base_100 for CIFAR-100
hardware: one GPU; the paper trained NesT-T on one
time:     not run
result:   not run. The paper: CIFAR-10 T/S/B 96.04/96.97/97.20 %, CIFAR-100
          78.69/81.70/82.56 % (only 97.20 and 82.56 are confirmed)
"""

from ml_collections import ConfigDict

from configs import classifier, recipes
from nest.errors import UserError

BATCH_SIZES = {"tiny": 192, "small": 64, "base": 32}  # published, on one device


def get_config(variant: str = "tiny") -> ConfigDict:
    """Return the config of a size, with "_100" after it for CIFAR-100."""
    size, _, classes = variant.partition("_")
    if size not in BATCH_SIZES or classes not in ("", "100"):
        raise UserError(
            f"configs/cifar_nest.py has no {variant!r}; use tiny, small or base, with "
            f"_100 after it for CIFAR-100"
        )
    config = classifier.get_config()
    config.model.name = f"nest_{size}_s16_32"
    recipes.set_cifar(config, classes=100 if classes else 10)
    config.batch_size = BATCH_SIZES[size]
    return config
