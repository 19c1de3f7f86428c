"""What experiments on the same data share: input, augmentation and schedule.

Not an experiment itself. The recipe is the one that NesT was published with.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def set_cifar(config: ConfigDict, *, classes: int) -> None:
    """Set all but model and batch size for CIFAR-10 or CIFAR-100 at 32 pixels."""
    config.model.image_size = 32

    config.data.dataset = f"cifar{classes}"
    if classes == 100:
        config.data.mean = (0.5071, 0.4867, 0.4408)
        config.data.std = (0.2675, 0.2565, 0.2761)
    else:
        config.data.mean = (0.4914, 0.4822, 0.4465)
        config.data.std = (0.2471, 0.2435, 0.2616)

    config.augment.shift = 2
    config.augment.flip = True
    config.augment.randaugment.layers = 2
    config.augment.randaugment.translate = 10.0
    config.augment.random_erasing.probability = 0.25
    config.augment.mix.mixup_alpha = 0.8
    config.augment.mix.cutmix_alpha = 1.0

    config.num_epochs = 300.0
    config.warmup_epochs = 5.0
    config.eval_every_epochs = 5.0


def set_imagenet(config: ConfigDict) -> None:
    """Set all but the model for ImageNet-1k at 224 pixels."""
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


def set_baseline(config: ConfigDict, name: str) -> None:
    """Set a model that is not a NesT.

    Fields that are NesT's only, or that not every model has, become None, which takes
    the model's own value.
    """
    config.model.name = name
    with config.unlocked():
        config.model.aggregation = placeholder(str)
        config.model.gelu = placeholder(str)
        config.model.remat = placeholder(bool)
