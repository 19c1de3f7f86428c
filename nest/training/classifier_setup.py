"""From the classifier's config to the objects of a run; the config goes no further."""

import dataclasses
import operator
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx
from jax.sharding import Mesh

from nest.augment.recipe import augment
from nest.data.pipeline import Batch, EvalBatches, this_host, train_batches
from nest.data.sources import Source, open_source
from nest.errors import UserError
from nest.models.variants import create_model
from nest.training.classifier_step import (
    State,
    TrainStep,
    init_state,
    make_train_step,
)
from nest.training.devices import check_batch_size, replicated
from nest.training.evaluation import EvalStep, make_eval_step
from nest.training.optimizer import adamw, warmup_cosine

AT_LEAST = {
    "seed": 0,
    "data.shift": 0,
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
    "clip_norm": 0,
    "ema_decay": 0,
    "label_smoothing": 0,
}


def check(config: ml_collections.ConfigDict, mesh: Mesh) -> None:
    """Raise UserError for a field out of its range."""
    for field, least in AT_LEAST.items():
        value = operator.attrgetter(field)(config)
        if value < least:
            bound = "positive" if least == 1e-9 else f"at least {least}"
            raise UserError(f"config.{field} = {value}; it must be {bound}")
    for field in ("ema_decay", "label_smoothing"):
        if config[field] >= 1:
            raise UserError(f"config.{field} = {config[field]}; it must be below 1")
    if config.warmup_epochs > config.num_epochs:
        raise UserError(
            f"config.warmup_epochs = {config.warmup_epochs} is longer than the run of "
            f"config.num_epochs = {config.num_epochs}; shorten the warm-up"
        )
    first, last = config.profile_steps
    if first > last:
        raise UserError(
            f"config.profile_steps = ({first}, {last}) ends before it starts"
        )
    check_batch_size("batch_size", config.batch_size, mesh, config.accumulation_steps)
    check_evaluation(config, mesh)


def check_evaluation(config: ml_collections.ConfigDict, mesh: Mesh) -> None:
    """Raise UserError for a field that evaluation cannot work with."""
    if not 0 < config.data.eval_crop <= 1:
        raise UserError(
            f"config.data.eval_crop = {config.data.eval_crop}; it must be in (0, 1]"
        )
    for field in ("mean", "std"):
        if len(config.data[field]) != 3:
            raise UserError(f"config.data.{field} needs three numbers, one per channel")
    check_batch_size("eval_batch_size", config.eval_batch_size, mesh)


def build_model(config: ml_collections.ConfigDict, num_classes: int) -> nnx.Module:
    """Build the model that `config.model` describes, with the parameters of the seed.

    Raises:
      UserError: its fields do not fit together.
    """
    fields = dict(config.model)
    name, dtype = fields.pop("name"), fields.pop("dtype")
    if dtype not in ("float32", "bfloat16"):
        raise UserError(f"config.model.dtype = {dtype!r}; use 'float32' or 'bfloat16'")
    overrides = {field: value for field, value in fields.items() if value is not None}
    try:
        return create_model(
            name,
            num_classes=num_classes,
            dtype=jnp.dtype(dtype),
            rngs=nnx.Rngs(config.seed),
            **overrides,
        )
    except ValueError as error:
        raise UserError(f"config.model: {error}") from error


def open_split(config: ml_collections.ConfigDict, split: str) -> Source:
    """Open a split of the dataset that `config.data` names."""
    data = config.data
    return open_source(
        data.source, dataset=data.dataset, data_dir=data.data_dir, split=split
    )


def build_train_batches(
    config: ml_collections.ConfigDict, source: Source, *, start: int, stop: int
) -> Iterator[Batch]:
    """Build this host's training batches for the steps start .. stop - 1."""
    data = config.data
    return train_batches(
        source,
        size=config.model.image_size,
        batch_size=config.batch_size,
        start_step=start,
        num_steps=stop,
        seed=config.seed,
        host=this_host(),
        in_memory=data.in_memory,
        eval_crop=data.eval_crop,
        crop_area=data.crop_area,
        crop_aspect=data.crop_aspect,
        threads=data.threads,
    )


def build_eval_batches(
    config: ml_collections.ConfigDict, source: Source
) -> EvalBatches:
    """Build the passes over an evaluation split."""
    return EvalBatches(
        source,
        size=config.model.image_size,
        batch_size=config.eval_batch_size,
        host=this_host(),
        in_memory=config.data.in_memory,
        eval_crop=config.data.eval_crop,
    )


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The config's epochs as steps.

    Attributes:
      num_steps: length of the run.
      learning_rate: step -> learning rate.
      eval_every, checkpoint_every: steps from one to the next.
    """

    num_steps: int
    learning_rate: optax.Schedule
    eval_every: int
    checkpoint_every: int

    @classmethod
    def of(cls, config: ml_collections.ConfigDict, num_examples: int) -> "Schedule":
        """Convert, for a training split of `num_examples`."""

        def steps(epochs: float) -> int:
            return round(epochs * num_examples / config.batch_size)

        num_steps = max(1, steps(config.num_epochs))
        peak = config.lr_per_256 * config.batch_size / 256
        warmup = min(steps(config.warmup_epochs), num_steps)
        return cls(
            num_steps=num_steps,
            learning_rate=warmup_cosine(peak, warmup, num_steps),
            eval_every=max(1, steps(config.eval_every_epochs)),
            checkpoint_every=max(1, steps(config.checkpoint_every_epochs)),
        )


def build_optimizer(
    config: ml_collections.ConfigDict, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
    """Build the optimizer that `config` describes."""
    return adamw(
        learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
    )


def build_state(
    config: ml_collections.ConfigDict,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    num_classes: int,
) -> tuple[nnx.GraphDef, State]:
    """Build the model and the state before the first step, on every device."""
    graphdef, params = nnx.split(build_model(config, num_classes))
    state = init_state(nnx.to_pure_dict(params), optimizer, ema=config.ema_decay > 0)
    return graphdef, jax.device_put(state, replicated(mesh))


def build_train_step(
    config: ml_collections.ConfigDict,
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    num_classes: int,
) -> TrainStep:
    """Build the jitted training step that `config` describes."""
    data = config.data
    return make_train_step(
        graphdef,
        optimizer,
        mesh,
        augment=partial(
            augment, shift=data.shift, flip=data.flip, mean=data.mean, std=data.std
        ),
        num_classes=num_classes,
        label_smoothing=config.label_smoothing,
        ema_decay=config.ema_decay,
        accumulation_steps=config.accumulation_steps,
        seed=config.seed,
    )


def build_eval_step(
    config: ml_collections.ConfigDict, graphdef: nnx.GraphDef, mesh: Mesh
) -> EvalStep:
    """Build the jitted evaluation step that `config` describes."""
    return make_eval_step(graphdef, mesh, mean=config.data.mean, std=config.data.std)
