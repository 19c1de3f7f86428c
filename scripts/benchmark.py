"""Measure training step and inference of a model, beside timm's where it is installed.

python scripts/benchmark.py --model=nest_tiny_s196_224 --batch_size=4

Contenders take turns, and the best of several rounds counts, so that a noisy machine
treats them alike. timm has the three 224-pixel models (requirements-benchmark.txt).
"""

import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave torch some

from absl import flags

from nest import command
from nest.errors import UserError
from nest.timing import Contender, compiled_bytes, take_turns, timed_compile

MODEL = flags.DEFINE_string("model", "nest_tiny_s196_224", "A published variant.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Images per step.", lower_bound=1)
IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Pixels; None: the variant's.")
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Computation.")
REMAT = flags.DEFINE_boolean("remat", False, "Recompute layers in the backward pass.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Best of so many.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 1, "Steps timed together.", lower_bound=1)
TIMM = flags.DEFINE_boolean("timm", True, "Measure timm, where it is installed.")
TORCH_COMPILE = flags.DEFINE_boolean("torch_compile", True, "And timm compiled.")

TIMM_NAMES = {
    "nest_tiny_s196_224": "nest_tiny",
    "nest_small_s196_224": "nest_small",
    "nest_base_s196_224": "nest_base",
}
PUBLISHED_STEP = dict(lr=1e-4, weight_decay=0.05)


def main() -> None:
    """Measure everything and print one table."""
    import jax

    nest, gflop_per_image = nest_contenders()
    others = timm_contenders() if TIMM.value else {"inference": [], "training": []}
    peak = matmul_peak()
    for task in nest:
        group = [nest[task], *others[task]]
        take_turns(group, rounds=ROUNDS.value, steps=STEPS.value)

    device = jax.devices()[0]
    print(
        f"\n{MODEL.value}, batch {BATCH_SIZE.value}, {DTYPE.value}, "
        f"{device.device_kind} ({platform.machine()}, {os.cpu_count()} cores), jax "
        f"{jax.__version__}; forward {gflop_per_image:.2f} GFLOP an image; matrix "
        f"product 4096^3 {peak:,.0f} GFLOP/s; best of {ROUNDS.value}\n"
    )
    print("| | | images/s | ratio | GFLOP/s | of peak | compile s | peak memory MB |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for task, factor in (("inference", 1), ("training", 3)):
        for contender in [nest[task], *others[task]]:
            speed = BATCH_SIZE.value / contender.best
            work = factor * gflop_per_image * speed
            memory = contender.peak_bytes
            print(
                f"| {task} | {contender.name} | {speed:.2f} | "
                f"{contender.best / nest[task].best:.2f}x | {work:,.0f} | "
                f"{work / peak:.0%} | {contender.compile_seconds:.1f} | "
                f"{f'{memory / 1e6:,.0f}' if memory else 'unknown'} |"
            )
    print("\nratio: how many times as fast as that row nest is; above 1 nest is faster")


def nest_contenders() -> tuple[dict[str, Contender], float]:
    """Build inference and training of our model; also its forward GFLOP an image."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from nest import VARIANTS, create_model
    from nest.augment.mixing import smooth_labels
    from nest.augment.recipe import normalize
    from nest.training.classifier_step import init_state, make_train_step
    from nest.training.devices import data_mesh, put_batch, replicated
    from nest.training.optimizer import adamw

    if MODEL.value not in VARIANTS:
        raise UserError(f"no model {MODEL.value!r}; there are: {', '.join(VARIANTS)}")
    size = IMAGE_SIZE.value or VARIANTS[MODEL.value]["image_size"]
    try:
        model = create_model(
            MODEL.value,
            image_size=size,
            dtype=jnp.dtype(DTYPE.value),
            remat=REMAT.value,
            rngs=nnx.Rngs(0),
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    graphdef, params = nnx.split(model)
    params = nnx.to_pure_dict(params)
    mesh = data_mesh(jax.devices()[:1])
    rng = np.random.default_rng(0)
    shape = (BATCH_SIZE.value, size, size, 3)
    batch = put_batch(
        {
            "image": rng.integers(0, 256, shape, np.uint8),
            "label": rng.integers(0, 1000, BATCH_SIZE.value).astype(np.int32),
        },
        mesh,
    )

    def input_of(images: jax.Array) -> jax.Array:
        return normalize(images / 255, (0.5,) * 3, (0.5,) * 3)

    def augment(images: jax.Array, labels: jax.Array, _: jax.Array) -> tuple:
        return input_of(images), smooth_labels(labels, 1000, 0.1)

    @jax.jit
    def infer(params: dict, images: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params)(input_of(images))

    optimizer = adamw(
        PUBLISHED_STEP["lr"],
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=PUBLISHED_STEP["weight_decay"],
        clip_norm=0.0,
    )
    step = make_train_step(
        graphdef,
        optimizer,
        mesh,
        augment=augment,
        ema_decay=0.0,
        accumulation_steps=1,
        seed=0,
    )
    params = jax.device_put(params, replicated(mesh))
    state = init_state(jax.tree.map(jnp.copy, params), optimizer, ema=False)
    state = jax.device_put(state, replicated(mesh))

    lowered = infer.lower(params, batch["image"])
    cost = lowered.cost_analysis()
    gflop_per_image = cost["flops"] / BATCH_SIZE.value / 1e9
    compiled_infer, infer_seconds = timed_compile(lowered)
    compiled_step, step_seconds = timed_compile(step.lower(state, batch))
    last: dict[str, Any] = {"state": state, "logits": None}

    def run_inference() -> None:
        last["logits"] = compiled_infer(params, batch["image"])

    def run_training() -> None:
        last["state"], _ = compiled_step(last["state"], batch)

    name = "nest (this project)"
    return {
        "inference": Contender(
            name,
            run_inference,
            lambda: jax.block_until_ready(last["logits"]),
            infer_seconds,
            compiled_bytes(compiled_infer),
        ),
        "training": Contender(
            name,
            run_training,
            lambda: jax.block_until_ready(last["state"]),
            step_seconds,
            compiled_bytes(compiled_step),
        ),
    }, gflop_per_image


def timm_contenders() -> dict[str, list[Contender]]:
    """Build the same of timm, eager and compiled; empty where there is none."""
    contenders: dict[str, list[Contender]] = {"inference": [], "training": []}
    try:
        import timm
        import torch
    except ImportError as error:
        print(f"timm is left out: {error}")
        return contenders
    name = TIMM_NAMES.get(MODEL.value)
    if name is None:
        print(f"timm is left out: it has no {MODEL.value}")
        return contenders
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = IMAGE_SIZE.value or 224
    images = torch.randn(BATCH_SIZE.value, 3, size, size, device=device)
    labels = torch.randint(0, 1000, (BATCH_SIZE.value,), device=device)
    label = f"timm {timm.__version__}, torch {torch.__version__}"
    kinds = ["eager", "compiled"] if TORCH_COMPILE.value else ["eager"]
    for kind in kinds:
        for task in contenders:
            model = timm.create_model(name, img_size=size, drop_path_rate=0.2)
            model = model.to(device).train(task == "training")
            run = torch_step(model, images, labels, task, compile=kind == "compiled")
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            try:
                run()
            except Exception as error:  # torch.compile fails in many ways.
                reason = str(error).strip().splitlines()[0][:150]
                print(f"timm {kind} {task} is left out: {reason}")
                continue
            finish = torch.cuda.synchronize if device.type == "cuda" else lambda: None
            finish()
            seconds = time.perf_counter() - start
            memory = (
                torch.cuda.max_memory_allocated() if device.type == "cuda" else None
            )
            contenders[task].append(
                Contender(f"{label}, {kind}", run, finish, seconds, memory)
            )
    return contenders


def torch_step(
    model: Any, images: Any, labels: Any, task: str, *, compile: bool
) -> Callable[[], None]:
    """Return a function that runs timm's model forward, or a whole training step."""
    import torch

    half = DTYPE.value == "bfloat16"
    forward = torch.compile(model) if compile else model

    def autocast() -> Any:
        return torch.autocast(images.device.type, torch.bfloat16, enabled=half)

    if task == "inference":

        def infer() -> None:
            with torch.inference_mode(), autocast():
                forward(images)

        return infer

    optimizer = torch.optim.AdamW(model.parameters(), **PUBLISHED_STEP)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)

    def train() -> None:
        optimizer.zero_grad()
        with autocast():
            loss = loss_of(forward(images), labels)
        loss.backward()
        optimizer.step()

    return train


def matmul_peak() -> float:
    """Measure GFLOP/s of a 4096-cube matrix product in the computation's type."""
    import jax
    import jax.numpy as jnp

    n = 4096
    key = jax.random.key(0)
    a = jax.random.normal(key, (n, n), jnp.dtype(DTYPE.value))
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    best = float("inf")
    for _ in range(ROUNDS.value):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best / 1e9


if __name__ == "__main__":
    command.run(main)
