"""Which values the fields of a GAN's config may have."""

import operator

import ml_collections
from jax.sharding import Mesh

from nest.augment.differentiable import POLICIES
from nest.errors import UserError
from nest.training.devices import check_batch_size
from nest.training.gan_losses import LOSSES

AT_LEAST = {
    "seed": 0,
    "r1_gamma": 0,
    "r1_every": 1,
    "batch_size": 1,
    "accumulation_steps": 1,
    "num_steps": 1,
    "generator_lr": 0,
    "discriminator_lr": 0,
    "eps": 0,
    "sample_every_steps": 1,
    "num_samples": 1,
    "checkpoint_every_steps": 1,
    "keep_checkpoints": 1,
    "log_every_steps": 1,
    "data.threads": 1,
}


def check(config: ml_collections.ConfigDict, mesh: Mesh) -> None:
    """Raise UserError for a field out of its range."""
    for field, least in AT_LEAST.items():
        value = operator.attrgetter(field)(config)
        if not value >= least:  # NaN included
            raise UserError(f"config.{field} = {value}; it must be at least {least}")
    if not 0 <= config.ema_decay < 1:
        raise UserError(f"config.ema_decay = {config.ema_decay}; it must be in [0, 1)")
    for field in ("betas", "profile_steps", "data.crop_area", "data.crop_aspect"):
        value = operator.attrgetter(field)(config)
        if len(value) != 2:
            raise UserError(f"config.{field} = {value}; it must be two numbers")
    if not all(0 <= beta < 1 for beta in config.betas):
        raise UserError(f"config.betas = {config.betas}; they must be in [0, 1)")
    if config.loss not in LOSSES:
        raise UserError(f"config.loss = {config.loss!r}; use one of {LOSSES}")
    unknown = set(config.augmentations) - set(POLICIES)
    if unknown:
        raise UserError(
            f"config.augmentations has {', '.join(map(repr, sorted(unknown)))}; there "
            f"are: {', '.join(POLICIES)}"
        )
    if not 0 <= config.data.holdout <= 0.9:
        raise UserError(
            f"config.data.holdout = {config.data.holdout}; it must be in [0, 0.9]"
        )
    if not 0 < config.data.eval_crop <= 1:
        raise UserError(
            f"config.data.eval_crop = {config.data.eval_crop}; it must be in (0, 1]"
        )
    check_batch_size("batch_size", config.batch_size, mesh, config.accumulation_steps)


def check_evaluation(config: ml_collections.ConfigDict) -> None:
    """Raise UserError for a field that evaluation cannot work with."""
    for field, least in (("num_samples", 4), ("num_real", 0), ("batch_size", 1)):
        value = config.evaluation[field]
        if value < least:
            raise UserError(
                f"config.evaluation.{field} = {value}; it must be at least {least}"
            )
