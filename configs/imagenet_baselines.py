"""What the paper compares NesT with on ImageNet-1k at 224 pixels, 300 epochs (table 2).

command:  python train.py --config=configs/imagenet_baselines.py:deit_small
          deit_tiny (default), deit_small, deit_base, swin_tiny, resnet50
hardware: TPU or GPUs for a global batch of 1024
time:     not run
result:   not run. Their own papers, with their own recipes: DeiT-T/S/B 72.2/79.8/81.8,
          Swin-T 81.3 % (second-hand)

Everything but the model is NesT's recipe of configs/imagenet_nest.py, which is close to
DeiT's and Swin's, but not to the one that ResNet-50 was published with.
"""

from ml_collections import ConfigDict

from configs import classifier, recipes
from nest.errors import UserError

MODELS = {
    "deit_tiny": "deit_tiny_patch16_224",
    "deit_small": "deit_small_patch16_224",
    "deit_base": "deit_base_patch16_224",
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "resnet50": "resnet50",
}


def get_config(model: str = "deit_tiny") -> ConfigDict:
    """Return the config of a model."""
    if model not in MODELS:
        raise UserError(
            f"configs/imagenet_baselines.py has no {model!r}; use {', '.join(MODELS)}"
        )
    config = classifier.get_config()
    recipes.set_imagenet(config)
    recipes.set_baseline(config, MODELS[model])
    return config
