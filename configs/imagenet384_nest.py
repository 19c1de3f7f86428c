"""NesT on ImageNet-1k at 384 pixels, from weights trained at 224.

command:  python train.py --config=configs/imagenet384_nest.py:base
          --config.init_from=WEIGHTS
          tiny (default), small, base; WEIGHTS is what nest.weights reads, for example
          hf-hub:timm/nest_base_jx.goog_in1k or a workdir of configs/imagenet_nest.py
hardware: TPU or GPUs for a global batch of 512
time:     not run
result:   not run
paper:    86.2 % for NesT-B after pre-training on ImageNet-22K (second-hand), which this
          does not do

The schedule is not from the paper, which does not tell it: 30 epochs at a hundredth of
the learning rate per image, without MixUp and CutMix.
"""

from ml_collections import ConfigDict

from configs import imagenet_nest


def get_config(size: str = "tiny") -> ConfigDict:
    """Return the config of a size."""
    config = imagenet_nest.get_config(size)
    config.init_from = "required"
    config.model.image_size = 384
    config.data.eval_crop = 1.0
    config.augment.randaugment.translate = 170.0  # 100 pixels at 224
    config.augment.mix.mixup_alpha = 0.0
    config.augment.mix.cutmix_alpha = 0.0

    config.batch_size = 512
    config.num_epochs = 30.0
    config.warmup_epochs = 3.0
    config.lr_per_256 = 2.5e-6
    config.weight_decay = 1e-8
    return config
