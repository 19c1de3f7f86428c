"""Which values the fields of a classifier's config may have."""

import operator

import ml_collections
from jax.sharding import Mesh

from nest.errors import UserError
from nest.models.variants import BASELINES
from nest.training.devices import check_batch_size

AT_LEAST = {
    "seed": 0,
    "augment.shift": 0,
    "augment.randaugment.layers": 0,
    "augment.randaugment.magnitude_std": 0,
    "augment.mix.mixup_alpha": 0,
    "augment.mix.cutmix_alpha": 0,
    "weight_decay": 0,
    "batch_size": 1,
    "eval_batch_size": 1,
    "accumulation_steps": 1,
    "keep_checkpoints": 1,
    "data.threads": 1,
    "log_every_steps": 1,
    "eval_every_epochs": 1e-9,
    "checkpoint_every_epochs": 1e-9,
    "num_epochs": 1e-9,
    "warmup_epochs": 0,
    "lr_per_256": 0,
    "eps": 0,
    "clip_norm": 0,
    "ema_decay": 0,
    "label_smoothing": 0,
}


AT_MOST = {
    "data.holdout": 0.9,
    "augment.randaugment.probability": 1,
    "augment.randaugment.magnitude": 10,
    "augment.randaugment.posterize": 8,
    "augment.randaugment.solarize": 256,
    "augment.randaugment.solarize_add": 127,
    "augment.color_jitter.probability": 1,
    "augment.color_jitter.brightness": 1,
    "augment.color_jitter.contrast": 1,
    "augment.color_jitter.saturation": 1,
    "augment.color_jitter.hue": 0.5,
    "augment.color_jitter.grey": 1,
    "augment.random_erasing.probability": 1,
    "augment.mix.cutmix_share": 1,
}

# Smallest and largest of something that is drawn.
RANGES = (
    "data.crop_area",
    "data.crop_aspect",
    "augment.random_erasing.area",
    "augment.random_erasing.aspect",
)


def check(config: ml_collections.ConfigDict, mesh: Mesh) -> None:
    """Raise UserError for a field out of its range."""
    for field, least in AT_LEAST.items():
        value = operator.attrgetter(field)(config)
        if not value >= least:  # NaN included
            bound = "positive" if least == 1e-9 else f"at least {least}"
            raise UserError(f"config.{field} = {value}; it must be {bound}")
    for field, most in AT_MOST.items():
        value = operator.attrgetter(field)(config)
        if not 0 <= value <= most:
            raise UserError(f"config.{field} = {value}; it must be in [0, {most}]")
    for field in RANGES:
        value = tuple(operator.attrgetter(field)(config))
        if len(value) != 2 or not 0 < value[0] <= value[1]:
            raise UserError(
                f"config.{field} = {value}; it must be (smallest, largest), positive"
            )
    if not 0 < config.layer_decay <= 1:
        raise UserError(
            f"config.layer_decay = {config.layer_decay}; it must be in (0, 1]"
        )
    for field in ("ema_decay", "label_smoothing"):
        if config[field] >= 1:
            raise UserError(f"config.{field} = {config[field]}; it must be below 1")
    if config.warmup_epochs > config.num_epochs:
        raise UserError(
            f"config.warmup_epochs = {config.warmup_epochs} is longer than the run of "
            f"config.num_epochs = {config.num_epochs}; shorten the warm-up"
        )
    for field in ("profile_steps", "betas", "augment.randaugment.enhance"):
        value = operator.attrgetter(field)(config)
        if len(value) != 2:
            raise UserError(f"config.{field} = {value}; it must be two numbers")
    if not all(0 <= beta < 1 for beta in config.betas):
        raise UserError(f"config.betas = {config.betas}; they must be in [0, 1)")
    first, last = config.profile_steps
    if first > last:
        raise UserError(
            f"config.profile_steps = ({first}, {last}) ends before it starts"
        )
    check_batch_size("batch_size", config.batch_size, mesh, config.accumulation_steps)
    if mixes(config) and config.batch_size // mesh.size % 2:
        raise UserError(
            f"config.batch_size = {config.batch_size} gives each of {mesh.size} "
            f"device(s) an odd number of images, but config.augment.mix mixes pairs; "
            f"use a multiple of {2 * mesh.size}"
        )
    if config.model.name in BASELINES:
        _check_baseline(config)
    check_evaluation(config, mesh)


def _check_baseline(config: ml_collections.ConfigDict) -> None:
    if config.init_from:
        raise UserError(
            f"config.init_from = {config.init_from!r}: only a NesT starts from "
            f"weights; {config.model.name} trains from scratch"
        )
    if config.layer_decay < 1:
        raise UserError(
            f"config.layer_decay = {config.layer_decay} knows the layers of a NesT "
            f"only; leave it 1 for {config.model.name}"
        )


def check_evaluation(config: ml_collections.ConfigDict, mesh: Mesh) -> None:
    """Raise UserError for a field that evaluation cannot work with."""
    if not 0 < config.data.eval_crop <= 1:
        raise UserError(
            f"config.data.eval_crop = {config.data.eval_crop}; it must be in (0, 1]"
        )
    for field in ("mean", "std"):
        if len(config.data[field]) != 3:
            raise UserError(f"config.data.{field} needs three numbers, one per channel")
    if not min(config.data.std) > 0:
        raise UserError(f"config.data.std = {config.data.std}; it must be positive")
    check_batch_size("eval_batch_size", config.eval_batch_size, mesh)


def mixes(config: ml_collections.ConfigDict) -> bool:
    """Tell whether images are mixed with their neighbours."""
    mix = config.augment.mix
    return mix.mixup_alpha > 0 or mix.cutmix_alpha > 0
