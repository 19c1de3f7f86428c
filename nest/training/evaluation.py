"""Exact metrics over a whole split: every example counts once."""

from collections.abc import Callable, Iterable
from typing import Any

import clu.metrics
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from nest.augment.recipe import model_input
from nest.training.devices import batch_sharding, put_batch, replicated


@flax.struct.dataclass
class EvalMetrics(clu.metrics.Collection):
    """Means over the examples that are not masked out."""

    loss: clu.metrics.Average.from_output("loss")
    top1: clu.metrics.Average.from_output("top1")
    top5: clu.metrics.Average.from_output("top5")


EvalStep = Callable[[dict, dict], tuple[EvalMetrics, jax.Array]]


def make_eval_step(
    graphdef: nnx.GraphDef, mesh: Mesh, *, mean: tuple, std: tuple
) -> EvalStep:
    """Build the jitted step: params and a batch to metrics and a confusion matrix.

    Args:
      mean, std: see `normalize`.

    Returns:
      A function whose batch is a global {"image", "label", "mask"}; the confusion
      matrix is int32 (classes, classes), true class by predicted class.
    """

    def step(params: dict, batch: dict) -> tuple[EvalMetrics, jax.Array]:
        images = model_input(batch["image"], mean, std)
        logits = nnx.merge(graphdef, params)(images)
        labels, mask = batch["label"], batch["mask"]
        classes = logits.shape[-1]
        _, best = jax.lax.top_k(logits, min(5, classes))  # ties: the lower class
        hits = best == labels[:, None]
        metrics = EvalMetrics.single_from_model_output(
            loss=optax.softmax_cross_entropy_with_integer_labels(logits, labels),
            top1=hits[:, 0].astype(jnp.float32),
            top5=hits.any(axis=1).astype(jnp.float32),
            mask=mask,
        )
        confusion = jnp.zeros((classes, classes), jnp.int32)
        confusion = confusion.at[labels, best[:, 0]].add(mask.astype(jnp.int32))
        return metrics, confusion

    return jax.jit(
        step,
        in_shardings=(replicated(mesh), batch_sharding(mesh)),
        out_shardings=replicated(mesh),
    )


def evaluate(
    eval_step: EvalStep, params: dict, batches: Iterable[dict], mesh: Mesh
) -> tuple[dict[str, float], np.ndarray]:
    """Run over all batches.

    Returns:
      {"examples", "loss", "top1", "top5"} (top1 and top5 as shares in [0, 1]) and the
      confusion matrix, int64 (classes, classes).
    """
    total, confusion = None, 0
    for batch in batches:
        output = eval_step(params, put_batch(batch, mesh))
        metrics, matrix = jax.device_get(output)
        total = metrics if total is None else total.merge(metrics)
        confusion = confusion + matrix.astype(np.int64)
    results = {name: float(value) for name, value in total.compute().items()}
    return {"examples": int(total.loss.count)} | results, confusion


def worst_classes(
    confusion: np.ndarray, class_names: tuple[str, ...], *, count: int
) -> list[dict[str, Any]]:
    """Describe the classes with the lowest recall and what they are taken for.

    Args:
      confusion: (classes, classes), true class by predicted class.
      count: how many classes at most; those without an error are left out.
    """
    totals = confusion.sum(axis=1)
    recall = np.diag(confusion) / np.maximum(totals, 1)
    worst = [i for i in np.argsort(recall, kind="stable") if totals[i] > 0]
    described = []
    for i in worst[:count]:
        errors = confusion[i].copy()
        errors[i] = 0
        taken_for = [
            int(j) for j in np.argsort(-errors, kind="stable")[:3] if errors[j]
        ]
        if taken_for:
            described.append(
                {
                    "class": class_names[i],
                    "recall": float(recall[i]),
                    "examples": int(totals[i]),
                    "taken_for": {class_names[j]: int(errors[j]) for j in taken_for},
                }
            )
    return described
