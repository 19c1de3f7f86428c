"""From the classifier's config to the objects of a run; the config goes no further."""

import dataclasses
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx
from jax.sharding import Mesh

from nest.augment.randaugment import Strengths
from nest.augment.recipe import Recipe, augment
from nest.data.pipeline import Batch, EvalBatches, this_host, train_batches
from nest.data.reader import Reader
from nest.data.sources import open_source
from nest.errors import UserError
from nest.models.variants import create_model
from nest.training.classifier_check import mixes
from nest.training.classifier_step import (
    State,
    TrainStep,
    init_state,
    make_train_step,
    split_model,
)
from nest.training.devices import replicated
from nest.training.evaluation import EvalStep, make_eval_step
from nest.training.finetuning import fine_tuning, initialize
from nest.training.optimizer import adamw, warmup_cosine
from nest.weights import Report


def build_model(config: ml_collections.ConfigDict, num_classes: int) -> nnx.Module:
    """Build the model that `config.model` describes, with the parameters of the seed.

    Raises:
      UserError: its fields do not fit together.
    """
    fields = dict(config.model)
    name = fields.pop("name")
    del fields["dtype"]
    overrides = {field: value for field, value in fields.items() if value is not None}
    try:
        return create_model(
            name,
            num_classes=num_classes,
            dtype=compute_type(config),
            rngs=nnx.Rngs(config.seed),
            **overrides,
        )
    except ValueError as error:
        raise UserError(f"config.model: {error}") from error


def compute_type(config: ml_collections.ConfigDict) -> jnp.dtype:
    """Return the type that `config.model.dtype` names."""
    dtype = config.model.dtype
    if dtype not in ("float32", "bfloat16"):
        raise UserError(f"config.model.dtype = {dtype!r}; use 'float32' or 'bfloat16'")
    return jnp.dtype(dtype)


def open_split(config: ml_collections.ConfigDict, split: str) -> Reader:
    """Open a split of the dataset that `config.data` names."""
    data = config.data
    source = open_source(
        data.source,
        dataset=data.dataset,
        data_dir=data.data_dir,
        split=split,
        holdout=data.holdout,
    )
    return Reader(source, skip_corrupt=data.skip_corrupt)


def build_train_batches(
    config: ml_collections.ConfigDict, reader: Reader, *, start: int, stop: int
) -> Iterator[Batch]:
    """Build this host's training batches for the steps start .. stop - 1."""
    data = config.data
    return train_batches(
        reader,
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
    config: ml_collections.ConfigDict, reader: Reader
) -> EvalBatches:
    """Build the passes over an evaluation split."""
    return EvalBatches(
        reader,
        size=config.model.image_size,
        batch_size=config.eval_batch_size,
        host=this_host(),
        in_memory=config.data.in_memory,
        eval_crop=config.data.eval_crop,
        threads=config.data.threads,
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
    optimizer = adamw(
        learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
    )
    return fine_tuning(
        optimizer, freeze=tuple(config.freeze), layer_decay=config.layer_decay
    )


def build_state(
    config: ml_collections.ConfigDict,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    num_classes: int,
) -> tuple[nnx.GraphDef, State]:
    """Build the model and the state before the first step, on every device."""
    graphdef, params, statistics = split_model(build_model(config, num_classes))
    state = init_state(
        params, optimizer, ema=config.ema_decay > 0, statistics=statistics
    )
    return graphdef, jax.device_put(state, replicated(mesh))


def build_recipe(config: ml_collections.ConfigDict) -> Recipe:
    """Build the recipe that `config.augment` describes; what is off becomes None."""
    parts = config.augment
    randaugment = parts.randaugment.to_dict()
    arguments = {
        name: randaugment.pop(name)
        for name in ("layers", "probability", "magnitude", "magnitude_std")
    }
    arguments["strengths"] = Strengths(**randaugment)
    color_jitter = parts.color_jitter
    jitters = color_jitter.probability > 0 or color_jitter.grey > 0
    erases = parts.random_erasing.probability > 0
    return Recipe(
        shift=parts.shift,
        flip=parts.flip,
        randaugment=arguments if parts.randaugment.layers else None,
        color_jitter=color_jitter.to_dict() if jitters else None,
        mean=config.data.mean,
        std=config.data.std,
        random_erasing=parts.random_erasing.to_dict() if erases else None,
        smoothing=config.label_smoothing,
        mix=parts.mix.to_dict() if mixes(config) else None,
    )


def build_state_from_weights(
    config: ml_collections.ConfigDict,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    class_names: tuple[str, ...],
) -> tuple[State, Report]:
    """Build the state before the first step from the weights of `config.init_from`."""
    model = build_model(config, len(class_names))
    params, report = initialize(
        model,
        config.init_from,
        class_names,
        gelu=config.model.gelu,
        mean=config.data.mean,
        std=config.data.std,
    )
    state = init_state(
        jax.tree.map(jnp.asarray, params), optimizer, ema=config.ema_decay > 0
    )
    return jax.device_put(state, replicated(mesh)), report


def build_train_step(
    config: ml_collections.ConfigDict,
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    num_classes: int,
) -> TrainStep:
    """Build the jitted training step that `config` describes."""
    return make_train_step(
        graphdef,
        optimizer,
        mesh,
        augment=partial(augment, recipe=build_recipe(config), num_classes=num_classes),
        ema_decay=config.ema_decay,
        accumulation_steps=config.accumulation_steps,
        seed=config.seed,
    )


def build_eval_step(
    config: ml_collections.ConfigDict, graphdef: nnx.GraphDef, mesh: Mesh
) -> EvalStep:
    """Build the jitted evaluation step that `config` describes."""
    return make_eval_step(graphdef, mesh, mean=config.data.mean, std=config.data.std)
