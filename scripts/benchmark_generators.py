"""Time the transposed NesT beside the generators that the paper compares it with.

python scripts/benchmark_generators.py --batch_size=4

TransGAN's attention over all 64x64 tokens is timed in every form that runs here:
"whole" (two matrix products), "slices" of queries (nest/models/long_attention.py: never
all weights in memory at once), and on GPUs in bfloat16 cuDNN's fused kernel. Generators
take turns, and the best of several rounds counts. --training times whole GAN steps in
their place, of both networks and without R1.
"""

import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags

from nest import command
from nest.errors import UserError
from nest.tables.generators import markdown
from nest.timing import Contender, call_bytes, take_turns, timed_compile

NAMES = flags.DEFINE_list(
    "names",
    ["nest_generator_64", "transgan_64", "sagan_64"],
    "Of nest.models.generators.GENERATORS; ratios are to transgan_64.",
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Images per step.", lower_bound=1)
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Computation.")
TRAINING = flags.DEFINE_boolean(
    "training", False, "Time steps against imagenet64_generator's discriminator."
)
ATTENTION = flags.DEFINE_list(
    "attention", ["whole", "slices", "cudnn"], "Forms of TransGAN's that are tried."
)
ROUNDS = flags.DEFINE_integer("rounds", 5, "Best of so many.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 1, "Steps timed together.", lower_bound=1)
JSON = flags.DEFINE_string("json", "", "File for the figures, besides the table.")


def main() -> None:
    """Measure everything and print one table."""
    import jax

    from nest.models.generators import GENERATORS
    from nest.models.long_attention import LONG_ATTENTION

    for form in ATTENTION.value:
        if form not in LONG_ATTENTION:
            raise UserError(
                f"no attention {form!r}; there are: {', '.join(LONG_ATTENTION)}"
            )
    for name in NAMES.value:
        if name not in GENERATORS:
            raise UserError(
                f"no generator {name!r}; there are: {', '.join(GENERATORS)}"
            )
    contenders, rows = [], []
    for name in NAMES.value:
        for form in forms(name):
            try:
                contender, figures = build(name, form)
            except (NotImplementedError, RuntimeError, ValueError) as error:
                if form != "cudnn":
                    raise
                reason = str(error).strip().splitlines()[0][:150]
                print(f"{name}, {form} attention is left out: {reason}")
                continue
            contenders.append(contender)
            rows.append(figures)
    take_turns(contenders, rounds=ROUNDS.value, steps=STEPS.value)
    for contender, row in zip(contenders, rows, strict=True):
        row["images_per_second"] = BATCH_SIZE.value / contender.best
    device = jax.devices()[0]
    report = {
        "what": "training" if TRAINING.value else "generation",
        "batch_size": BATCH_SIZE.value,
        "dtype": DTYPE.value,
        "rounds": ROUNDS.value,
        "device": f"{device.device_kind} ({platform.machine()}, {cores()} cores)",
        "jax": jax.__version__,
        "rows": rows,
    }
    command = shlex.join(["python", "scripts/benchmark_generators.py", *sys.argv[1:]])
    print(markdown(report, command=command))
    if JSON.value:
        Path(JSON.value).write_text(json.dumps(report, indent=2) + "\n")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()


def forms(name: str) -> list[str | None]:
    """The forms of long attention that are worth timing; [None] where it has none."""
    import jax

    from nest.models.generators import GENERATORS

    if GENERATORS[name].get("nested", True):
        return [None]
    fused = jax.default_backend() == "gpu" and DTYPE.value == "bfloat16"
    return [form for form in ATTENTION.value if form != "cudnn" or fused]


def build(name: str, form: str | None) -> tuple[Contender, dict[str, Any]]:
    """Compile a generator, or its training step, and run it once."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from nest.models.costs import count_parameters, multiply_adds
    from nest.models.generators import create_generator

    options = {} if form is None else {"long_attention": form}
    dtype = jnp.dtype(DTYPE.value)
    model = create_generator(name, dtype=dtype, rngs=nnx.Rngs(0), **options)
    graphdef, params = nnx.split(model)
    params = nnx.to_pure_dict(params)
    noise = jax.random.normal(jax.random.key(0), (BATCH_SIZE.value, model.noise_size))

    def generate(params: dict, noise: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params)(noise)

    figures = {
        "name": name,
        "form": form,
        "parameters": count_parameters(model),
        "multiply_adds": multiply_adds(generate, params, noise[:1]),
    }
    if TRAINING.value:
        step, arguments = training_step(model)
    else:
        step, arguments = jax.jit(generate), (params, noise)
    compiled, seconds = timed_compile(step.lower(*arguments))
    last: dict[str, Any] = {"out": arguments[0]}

    def run() -> None:
        if TRAINING.value:
            last["out"], _ = compiled(last["out"], arguments[1])
        else:
            last["out"] = compiled(*arguments)

    def finish() -> None:
        jax.block_until_ready(last["out"])

    def run_and_wait() -> None:
        run()
        finish()

    run_and_wait()
    figures["peak_bytes"] = call_bytes(compiled, run_and_wait)
    figures["compile_seconds"] = seconds
    contender = Contender(name, run, finish, seconds, figures["peak_bytes"])
    return contender, figures


def training_step(model: Any) -> tuple[Any, tuple]:
    """The GAN's step against the discriminator of the paper's setting."""
    import jax
    import numpy as np
    from flax import nnx

    from configs import imagenet64_generator
    from nest.training import gan_setup
    from nest.training.devices import data_mesh, put_batch, replicated
    from nest.training.gan_step import init_gan_state, make_gan_step

    config = imagenet64_generator.get_config()
    with config.unlocked():
        config.model.dtype = DTYPE.value
        config.model.image_size = model.image_size
    mesh = data_mesh(jax.devices()[:1])
    generator, params = nnx.split(model)
    discriminator, discriminator_params = nnx.split(
        gan_setup.build_discriminator(config, nnx.Rngs(1))
    )
    optimizers = gan_setup.build_optimizers(config)
    state = init_gan_state(
        nnx.to_pure_dict(params), nnx.to_pure_dict(discriminator_params), *optimizers
    )
    step = make_gan_step(
        generator,
        discriminator,
        *optimizers,
        mesh,
        noise_size=model.noise_size,
        loss=config.loss,
        r1_gamma=0.0,
        r1_every=config.r1_every,
        augmentations=(),
        flip=False,
        ema_decay=config.ema_decay,
        accumulation_steps=1,
        seed=0,
    )
    shape = (BATCH_SIZE.value, model.image_size, model.image_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    batch = put_batch({"image": images}, mesh)
    return step, (jax.device_put(state, replicated(mesh)), batch)


if __name__ == "__main__":
    command.run(main)
