"""Every field of a GAN run, at its default; each experiment sets its own.

Not an experiment itself. The locked result refuses fields that are not listed here.
The paper records neither loss nor optimizer; the defaults are those of the same group's
HiT-GAN (arXiv 2106.07631), but for the discriminator's learning rate.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """Return the defaults."""
    config = ConfigDict()
    config.task = "gan"
    config.seed = 0  # of parameters, data order, noise and augmentation

    config.model = ConfigDict()
    config.model.image_size = 0  # pixels
    config.model.dtype = "float32"  # of the computation: float32, bfloat16
    config.model.generator = generator = ConfigDict()
    generator.name = ""  # a key of nest.models.generators.GENERATORS
    # None takes the generator's own value; per level, top first.
    generator.noise_size = placeholder(int)
    generator.layers = placeholder(tuple)
    generator.widths = placeholder(tuple)  # channels
    generator.heads = placeholder(tuple)
    generator.patch_size = placeholder(int)  # pixels that a last token becomes, a side
    generator.upsampling = placeholder(str)  # see nest.models.upsampling
    generator.attention = placeholder(str)  # multi_head, multi_query
    config.model.discriminator = discriminator = ConfigDict()
    discriminator.widths = ()  # channels at full size, at half of it, ...

    config.data = ConfigDict()
    config.data.source = "tfds"  # tfds, folder, cifar, digits, synthetic
    config.data.dataset = ""  # TFDS name; cifar10, cifar100; CLASSESxEXAMPLESxSIZE
    config.data.data_dir = ""  # for tfds, "" is ~/tensorflow_datasets
    config.data.train_split = "train"
    config.data.eval_split = "test"  # held out: what evaluate.py compares with, too
    config.data.holdout = 0.0  # share of a folder without splits for "test", [0, 0.9]
    config.data.skip_corrupt = False  # replace unreadable images; True counts them
    config.data.in_memory = True  # decode once; False: decode on demand
    config.data.threads = 4  # that decode, when not in memory
    config.data.eval_crop = 1.0  # side of the centre crop / short side, (0, 1]
    config.data.crop_area = (1.0, 1.0)  # of a random crop, when not in memory
    config.data.crop_aspect = (1.0, 1.0)  # of a random crop, when not in memory
    config.data.flip = False  # mirror half of the real images

    config.loss = "non_saturating"  # non_saturating, hinge
    config.r1_gamma = 10.0  # weight of the gradient penalty; 0 is off
    config.r1_every = 16  # steps from one penalty to the next
    # Differentiable augmentation, for small data: color, translation, cutout.
    config.augmentations = ()

    config.batch_size = 256  # images per step, over all devices
    config.accumulation_steps = 1  # parts of a batch worked off one after the other
    config.num_steps = 0
    config.generator_lr = 1e-4
    config.discriminator_lr = 2e-3  # StyleGAN2's, for equalized learning rates
    config.betas = (0.0, 0.99)  # of Adam
    config.eps = 1e-8
    config.ema_decay = 0.999  # of the generator's average, [0, 1); 0 is off

    config.sample_every_steps = 1000
    config.num_samples = 64  # of the grid in the workdir
    config.checkpoint_every_steps = 1000
    config.keep_checkpoints = 2  # the newest
    config.log_every_steps = 100
    config.profile_steps = (0, 0)  # first and last step to trace; (0, 0) is off

    config.evaluation = ConfigDict()  # of evaluate.py
    config.evaluation.num_samples = 50_000
    config.evaluation.num_real = 0  # of the training split to compare with; 0 is all
    config.evaluation.batch_size = 256
    config.evaluation.baseline = ""  # workdir of another GAN, measured beside
    config.evaluation.classifier = ""  # judges by a NesT: what nest.weights reads
    config.evaluation.inception = False  # FID and others, needs requirements-fidelity
    config.evaluation.inception_weights = ""  # file; "": downloaded
    return config.lock()
