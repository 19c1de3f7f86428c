"""From a GAN's config to the objects of a run; the config goes no further."""

import ml_collections
import optax
from flax import nnx
from jax.sharding import Mesh

from nest.errors import UserError
from nest.models.conv_generator import ConvGenerator
from nest.models.discriminator import Discriminator
from nest.models.generator import Generator
from nest.models.generators import create_generator
from nest.training.classifier_setup import compute_type
from nest.training.devices import put_everywhere
from nest.training.gan_step import GanState, GanStep, init_gan_state, make_gan_step


def build_generator(
    config: ml_collections.ConfigDict, rngs: nnx.Rngs
) -> Generator | ConvGenerator:
    """Build the generator that `config.model` describes.

    Raises:
      UserError: its fields do not fit together.
    """
    fields = dict(config.model.generator)
    name = fields.pop("name")
    overrides = {field: value for field, value in fields.items() if value is not None}
    try:
        return create_generator(
            name,
            image_size=config.model.image_size,
            dtype=compute_type(config),
            rngs=rngs,
            **overrides,
        )
    except ValueError as error:
        raise UserError(f"config.model.generator: {error}") from error


def build_discriminator(
    config: ml_collections.ConfigDict, rngs: nnx.Rngs
) -> Discriminator:
    """Build the discriminator that `config.model` describes.

    Raises:
      UserError: its fields do not fit together.
    """
    try:
        return Discriminator(
            image_size=config.model.image_size,
            widths=tuple(config.model.discriminator.widths),
            dtype=compute_type(config),
            rngs=rngs,
        )
    except ValueError as error:
        raise UserError(f"config.model.discriminator: {error}") from error


def check_networks(config: ml_collections.ConfigDict) -> int:
    """Build both networks without their arrays; return the length of the noise.

    Raises:
      UserError: the fields of `config.model` do not fit together.
    """
    generator = nnx.eval_shape(lambda: build_generator(config, nnx.Rngs(0)))
    nnx.eval_shape(lambda: build_discriminator(config, nnx.Rngs(0)))
    return generator.noise_size


def build_optimizers(
    config: ml_collections.ConfigDict,
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Build Adam for the generator and for the discriminator."""

    def adam(lr: float) -> optax.GradientTransformation:
        return optax.adam(lr, b1=config.betas[0], b2=config.betas[1], eps=config.eps)

    return adam(config.generator_lr), adam(config.discriminator_lr)


def build_state(
    config: ml_collections.ConfigDict, mesh: Mesh
) -> tuple[nnx.GraphDef, nnx.GraphDef, GanState]:
    """Build both networks and the state before the first step, on every device."""
    rngs = nnx.Rngs(config.seed)
    generator, generator_params = nnx.split(build_generator(config, rngs))
    discriminator, discriminator_params = nnx.split(build_discriminator(config, rngs))
    state = init_gan_state(
        nnx.to_pure_dict(generator_params),
        nnx.to_pure_dict(discriminator_params),
        *build_optimizers(config),
    )
    return generator, discriminator, put_everywhere(state, mesh)


def build_step(
    config: ml_collections.ConfigDict,
    generator: nnx.GraphDef,
    discriminator: nnx.GraphDef,
    mesh: Mesh,
    *,
    noise_size: int,
) -> GanStep:
    """Build the jitted training step that `config` describes."""
    return make_gan_step(
        generator,
        discriminator,
        *build_optimizers(config),
        mesh,
        noise_size=noise_size,
        loss=config.loss,
        r1_gamma=config.r1_gamma,
        r1_every=config.r1_every,
        augmentations=tuple(config.augmentations),
        flip=config.data.flip,
        ema_decay=config.ema_decay,
        accumulation_steps=config.accumulation_steps,
        seed=config.seed,
    )
