"""NesT on CIFAR-10 or CIFAR-100 from scratch, 300 epochs (paper, table 1).

command:  python train.py --config=configs/cifar_nest.py:small
          tiny (default), small, base; tiny_100, small_100, base_100 for CIFAR-100
hardware: one GPU; the paper trained NesT-T on one
time:     not run
result:   not run. The paper: CIFAR-10 T/S/B 96.04/96.97/97.20 %, CIFAR-100
          78.69/81.70/82.56 % (only 97.20 and 82.56 are confirmed)

Of the published augmentation this has the shift and the flip; RandAugment, random
erasing, MixUp and CutMix are not written yet, so expect less than the paper.
"""

from ml_collections import ConfigDict

from configs import classifier
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
    config.model.image_size = 32

    config.data.dataset = "cifar100" if classes else "cifar10"
    config.data.shift = 2
    config.data.flip = True
    if classes:
        config.data.mean = (0.5071, 0.4867, 0.4408)
        config.data.std = (0.2675, 0.2565, 0.2761)
    else:
        config.data.mean = (0.4914, 0.4822, 0.4465)
        config.data.std = (0.2471, 0.2435, 0.2616)

    config.batch_size = BATCH_SIZES[size]
    config.num_epochs = 300.0
    config.warmup_epochs = 5.0
    config.eval_every_epochs = 5.0
    return config
