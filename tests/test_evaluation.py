"""nest.training.evaluation."""

import jax
import numpy as np
from flax import nnx

from nest.data.pipeline import EvalBatches, Host
from nest.data.reader import Reader
from nest.data.sources import Source
from nest.training.devices import data_mesh
from nest.training.evaluation import evaluate, make_eval_step, worst_classes

CLASSES, EXAMPLES = 7, 23


class Lookup(nnx.Module):
    """Logits by the value of an image's first pixel, in place of a real classifier."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.table = nnx.Param(rng.normal(size=(EXAMPLES, CLASSES)).astype(np.float32))

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.table[...][(images[:, 0, 0, 0] * 255).round().astype("int32")]


def test_metrics_are_exact_over_the_whole_split(two_devices):
    labels = np.random.default_rng(1).integers(0, CLASSES, EXAMPLES)
    source = Source(
        read=lambda i: (np.full((2, 2, 3), i, np.uint8), int(labels[i])),
        num_examples=EXAMPLES,
        class_names=tuple("abcdefg"),
        describe=str,
    )
    graphdef, params = nnx.split(Lookup())
    batches = EvalBatches(
        Reader(source, skip_corrupt=False),
        size=2,
        batch_size=6,
        host=Host(0, 1),
        in_memory=True,
        eval_crop=1.0,
        threads=1,
    )
    mesh = data_mesh()
    step = make_eval_step(graphdef, mesh, mean=(0.0,) * 3, std=(1.0,) * 3)
    results, confusion = evaluate(step, nnx.to_pure_dict(params), batches, mesh)

    logits = np.asarray(params["table"][...], np.float64)
    own = logits[np.arange(EXAMPLES), labels]
    rank = (logits > own[:, None]).sum(axis=1)
    loss = np.log(np.exp(logits).sum(axis=1)) - own
    assert results["examples"] == EXAMPLES
    np.testing.assert_allclose(results["loss"], loss.mean(), rtol=1e-6)
    np.testing.assert_allclose(results["top1"], (rank < 1).mean(), rtol=1e-6)
    np.testing.assert_allclose(results["top5"], (rank < 5).mean(), rtol=1e-6)
    expected = np.zeros((CLASSES, CLASSES), int)
    np.add.at(expected, (labels, logits.argmax(axis=1)), 1)
    np.testing.assert_array_equal(confusion, expected)


def test_worst_classes_are_those_with_the_lowest_recall():
    confusion = np.array([[8, 2, 0, 0], [0, 4, 0, 0], [1, 2, 1, 0], [0, 0, 0, 0]])
    assert worst_classes(confusion, ("a", "b", "c", "d"), count=3) == [
        {"class": "c", "recall": 0.25, "examples": 4, "taken_for": {"b": 2, "a": 1}},
        {"class": "a", "recall": 0.8, "examples": 10, "taken_for": {"b": 2}},
    ]
