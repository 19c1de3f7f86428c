"""Every field of a classifier run, at its default; each experiment sets its own.

Not an experiment itself. The locked result refuses fields that are not listed here.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """Return the defaults: the published recipe where it is the same everywhere."""
    config = ConfigDict()
    config.task = "classifier"
    config.seed = 0  # of parameters, data order, augmentation and drop path

    config.init_from = ""  # weights to start from: what nest.weights reads
    config.freeze = ()  # names of parameters that stay, * is anything: "levels.0.*"
    config.layer_decay = 1.0  # learning rate of a layer / that of the next, (0, 1]

    config.model = ConfigDict()
    config.model.name = ""  # a key of nest.VARIANTS or nest.BASELINES
    config.model.image_size = 0  # pixels
    # None takes the model's own value, and has to stay where a baseline lacks the
    # field, which configs/recipes.py sees to; per level, bottom first.
    config.model.patch_size = placeholder(int)  # pixels
    config.model.block_size = placeholder(int)  # tokens along one side of a block
    config.model.layers = placeholder(tuple)
    config.model.widths = placeholder(tuple)  # channels
    config.model.heads = placeholder(tuple)
    config.model.attention = placeholder(str)  # multi_head, multi_query
    config.model.drop_path = placeholder(float)  # rate of the last layer, [0, 1)
    config.model.aggregation = "conv_max_pool"  # see nest.models.aggregation
    config.model.gelu = "tanh"  # tanh (published), exact (timm)
    config.model.dtype = "float32"  # of the computation: float32, bfloat16
    config.model.remat = False  # less memory for about a third more time

    config.data = ConfigDict()
    config.data.source = "tfds"  # tfds, folder, cifar, digits, synthetic
    config.data.dataset = ""  # TFDS name; cifar10, cifar100; CLASSESxEXAMPLESxSIZE
    config.data.data_dir = ""  # for tfds, "" is ~/tensorflow_datasets
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.holdout = 0.0  # share of a folder without splits for "test", [0, 0.9]
    config.data.skip_corrupt = False  # replace unreadable images; True counts them
    config.data.in_memory = True  # decode once; False: random resized crops on demand
    config.data.threads = 4  # that decode, when not in memory
    config.data.eval_crop = 1.0  # side of the centre crop / short side, (0, 1]
    config.data.crop_area = (0.05, 1.0)  # of a random resized crop, share of the image
    config.data.crop_aspect = (3 / 4, 4 / 3)  # of a random resized crop
    config.data.mean = (0.5, 0.5, 0.5)  # per channel, of values in [0, 1]
    config.data.std = (0.5, 0.5, 0.5)

    config.augment = ConfigDict()  # of training images, in this order
    config.augment.shift = 0  # pixels of padding before a random crop of the same size
    config.augment.flip = False  # mirror half of the images
    config.augment.randaugment = randaugment = ConfigDict()
    randaugment.layers = 0  # operations per image; 0 is off
    randaugment.probability = 0.5  # of each layer, [0, 1]
    randaugment.magnitude = 9.0  # mean of what is drawn, [0, 10]
    randaugment.magnitude_std = 0.5
    randaugment.rotate = 30.0  # degrees; this and the next ones at magnitude 10
    randaugment.shear = 0.3  # pixels per pixel
    randaugment.translate = 0.0  # pixels; published: 10 at 32 px, 100 at 224 px
    randaugment.posterize = 4.0  # bits that stay, [0, 8]
    randaugment.solarize = 256.0  # threshold, [0, 256]
    randaugment.solarize_add = 110.0  # added below 128, [0, 127]
    randaugment.enhance = (0.1, 1.9)  # factors at magnitude 0 and 10
    config.augment.color_jitter = color_jitter = ConfigDict()
    color_jitter.probability = 0.0  # [0, 1]; 0 is off
    color_jitter.brightness = 0.24  # factor 1 +- this, [0, 1]
    color_jitter.contrast = 0.24  # factor 1 +- this, [0, 1]
    color_jitter.saturation = 0.24  # factor 1 +- this, [0, 1]
    color_jitter.hue = 0.06  # turns, +- this, [0, 0.5]
    color_jitter.grey = 0.0  # probability of losing all colour, [0, 1]
    config.augment.random_erasing = random_erasing = ConfigDict()
    random_erasing.probability = 0.0  # [0, 1]; 0 is off
    random_erasing.area = (0.02, 1 / 3)  # share of the image
    random_erasing.aspect = (0.3, 1 / 0.3)  # height / width
    config.augment.mix = mix = ConfigDict()
    mix.mixup_alpha = 0.0  # 0 is off
    mix.cutmix_alpha = 0.0  # 0 is off
    mix.cutmix_share = 0.5  # probability of CutMix where both are on, [0, 1]

    config.batch_size = 0  # images per step, over all devices
    config.accumulation_steps = 1  # parts of a batch worked off one after the other
    config.num_epochs = 300.0
    config.warmup_epochs = 5.0
    config.lr_per_256 = 2.5e-4  # peak learning rate = this * batch_size / 256
    config.weight_decay = 0.05
    config.betas = (0.9, 0.999)  # of AdamW
    config.eps = 1e-8
    config.clip_norm = 0.0  # global gradient norm; 0 is off
    config.label_smoothing = 0.1  # [0, 1)
    config.ema_decay = 0.0  # of the weight average that is evaluated, [0, 1); 0 is off

    config.eval_batch_size = 256  # images per step, over all devices
    config.eval_every_epochs = 1.0
    config.checkpoint_every_epochs = 1.0
    config.keep_checkpoints = 2  # the newest; the best is kept besides
    config.log_every_steps = 50
    config.profile_steps = (0, 0)  # first and last step to trace; (0, 0) is off

    config.localization = ConfigDict()  # of evaluate.py
    config.localization.method = ""  # a key of nest.explain.methods.METHODS; "" is off
    config.localization.boxes = ""  # CSV or ImageNet's XML tar; "": the source's own
    config.localization.threshold = 0.5  # of a map scaled to [0, 1], [0, 1]
    config.localization.thresholds = 100  # that MaxBoxAccV2 chooses from
    return config.lock()
