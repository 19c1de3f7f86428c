"""What the paper compares NesT with on CIFAR-10 or CIFAR-100, 300 epochs (table 1).

command:  python train.py --config=configs/cifar_baselines.py:wrn_28_10
          deit_tiny (default), deit_small, deit_base, swin_tiny, wrn_28_10; with _100
          after it for CIFAR-100
hardware: one GPU
time:     not run
result:   not run. The paper's numbers for these are not known here. WideResNet's own
          paper, with its own recipe: 96.00 and 80.75 % (second-hand)

How the paper trained its comparisons, and with which patches and windows at 32 pixels,
is not known. So everything but the model is NesT's recipe of configs/cifar_nest.py,
with NesT-T's batch size: AdamW also for WideResNet, whose own recipe is SGD with
Nesterov momentum, weight decay 5e-4 and a learning rate that falls in steps.
"""

from ml_collections import ConfigDict

from configs import classifier, recipes
from nest.errors import UserError

MODELS = {
    "deit_tiny": "deit_tiny_patch4_32",
    "deit_small": "deit_small_patch4_32",
    "deit_base": "deit_base_patch4_32",
    "swin_tiny": "swin_tiny_patch2_window4_32",
    "wrn_28_10": "wide_resnet_28_10",
}


def get_config(variant: str = "deit_tiny") -> ConfigDict:
    """Return the config of a model, with "_100" after it for CIFAR-100."""
    model = variant.removesuffix("_100")
    if model not in MODELS:
        raise UserError(
            f"configs/cifar_baselines.py has no {variant!r}; use {', '.join(MODELS)}, "
            f"with _100 after it for CIFAR-100"
        )
    config = classifier.get_config()
    recipes.set_cifar(config, classes=10 if model == variant else 100)
    recipes.set_baseline(config, MODELS[model])
    config.batch_size = 192
    return config
