"""A NesT for your own images: a folder of class folders, and weights to start from.

command:  python train.py --config=configs/finetune_folder.py
          --config.data.data_dir=DIR --config.init_from=WEIGHTS
          tiny (default), small, base; WEIGHTS is what nest.weights reads, for example
          hf-hub:timm/nest_tiny_jx.goog_in1k
hardware: a GPU, or patience
time:     not run on ImageNet weights
result:   yours
paper:    not in the paper

DIR/CLASS/*.jpg, of which a tenth of each class is held out for the evaluation; for
DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg set --config.data.holdout=0.
"""

from ml_collections import ConfigDict

from configs import imagenet_nest


def get_config(size: str = "tiny") -> ConfigDict:
    """Return the config of a size."""
    config = imagenet_nest.get_config(size)
    config.init_from = "required"
    config.layer_decay = 0.75

    config.data.source = "folder"
    config.data.dataset = "folder"
    config.data.eval_split = "test"
    config.data.holdout = 0.1
    config.data.threads = 4
    config.augment.color_jitter.probability = 0.0
    config.augment.color_jitter.grey = 0.0
    config.augment.mix.mixup_alpha = 0.0
    config.augment.mix.cutmix_alpha = 0.0

    config.batch_size = 32
    config.eval_batch_size = 32
    config.num_epochs = 20.0
    config.warmup_epochs = 1.0
    config.lr_per_256 = 1e-3
    config.log_every_steps = 10
    return config
