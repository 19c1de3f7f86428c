"""Time GradCAT beside a forward pass and a plain value_and_grad of the same model.

python scripts/benchmark_explain.py --model=nest_tiny_s196_224 --batch_size=4

All take turns, and the best of several rounds counts. GradCAT for one class may cost at
most one forward and one backward pass, which is what value_and_grad is.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags

from nest import command
from nest.errors import UserError

MODEL = flags.DEFINE_string("model", "nest_tiny_s196_224", "A published variant.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Images.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 5, "Best of so many.", lower_bound=1)


def main() -> None:
    """Print a table of times and their ratios."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from nest import VARIANTS, create_model
    from nest.explain.gradcat import gradcat
    from nest.explain.methods import compile_method

    if MODEL.value not in VARIANTS:
        raise UserError(f"no model {MODEL.value!r}; there are: {', '.join(VARIANTS)}")
    model = create_model(MODEL.value, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(model)
    params = nnx.to_pure_dict(params)
    rng = np.random.default_rng(0)
    shape = (BATCH_SIZE.value, model.image_size, model.image_size, 3)
    images = jnp.asarray(rng.normal(size=shape), jnp.float32)
    classes = rng.integers(0, 1000, (BATCH_SIZE.value, 8)).astype(np.int32)
    rows = np.arange(BATCH_SIZE.value)

    @jax.jit
    def forward(params: dict, images: jax.Array, classes: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params)(images)

    @jax.jit
    @jax.value_and_grad
    def value_and_grad(
        params: dict, images: jax.Array, classes: jax.Array
    ) -> jax.Array:
        return nnx.merge(graphdef, params)(images)[rows, classes[:, 0]].sum()

    explain = compile_method(graphdef, gradcat)
    contenders = {
        "forward pass": (forward, 1),
        "value_and_grad": (value_and_grad, 1),
        "GradCAT, 1 class": (explain, 1),
        "GradCAT, 8 classes": (explain, 8),
    }
    best = dict.fromkeys(contenders, float("inf"))
    for turn in range(1 + ROUNDS.value):
        for name, (function, count) in contenders.items():
            start = time.perf_counter()
            jax.block_until_ready(function(params, images, classes[:, :count]))
            if turn:  # the first compiles
                best[name] = min(best[name], time.perf_counter() - start)
    device = jax.devices()[0].device_kind
    print(
        f"{MODEL.value}, batch {BATCH_SIZE.value}, {device}, best of {ROUNDS.value}\n\n"
        f"| | ms | of value_and_grad |\n|---|---:|---:|"
    )
    for name, seconds in best.items():
        ratio = seconds / best["value_and_grad"]
        print(f"| {name} | {1000 * seconds:,.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    command.run(main)
