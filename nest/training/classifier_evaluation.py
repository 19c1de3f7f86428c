"""Evaluating a classifier: a run's checkpoint or a weight file, and telling of it."""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import ml_collections
from flax import nnx
from jax.sharding import Mesh

from nest.data.reader import Reader
from nest.errors import UserError
from nest.models.variants import BASELINES
from nest.training import classifier_check, devices, hosts, inputs, workdir
from nest.training import classifier_setup as setup
from nest.training.checkpoints import Checkpoints, Metrics
from nest.training.checksum import agree_on_parameters
from nest.training.evaluation import evaluate, worst_classes
from nest.training.localization import evaluate_localization
from nest.weights import read_weights
from nest.weights.arrays import compare, flatten, unflatten, variables


def evaluate_checkpoint(
    config: ml_collections.ConfigDict, path: Path, which: str
) -> None:
    """Evaluate a checkpoint on the whole evaluation split and print the result as JSON.

    Args:
      which: "best", "latest" or a step.

    Raises:
      UserError: no such run or checkpoint, or a config that is not the run's.
    """
    mesh = devices.data_mesh()
    classifier_check.check_evaluation(config, mesh)
    if config.localization.method and config.model.name in BASELINES:
        raise UserError(
            f"config.localization.method = {config.localization.method!r} needs the "
            f"levels of a NesT, which {config.model.name} does not have"
        )
    workdir.check_evaluation_config(path, config)
    reader = inputs.open_split(config, config.data.eval_split)
    class_names = reader.source.class_names
    if workdir.class_names(path) not in (None, class_names):
        raise UserError(
            f"{path} was trained on other classes than those of the evaluation split; "
            f"check --config.data"
        )
    checkpoints = Checkpoints(path, read_only=True)
    step, params = checkpoints.restore_parameters(which)
    checkpoints.close()
    model = nnx.eval_shape(lambda: setup.build_model(config, len(class_names)))
    try:
        compare(flatten(params), variables(model), allow=())
    except ValueError as error:
        raise UserError(f"{path} does not fit the config: {error}") from error
    _evaluate_and_print(
        config,
        nnx.graphdef(model),
        unflatten(flatten(params)),
        mesh,
        reader,
        about={"workdir": str(path), "step": step},
    )


def evaluate_weights(config: ml_collections.ConfigDict, source: str) -> None:
    """Evaluate a weight file on the whole evaluation split; print the result as JSON.

    The file tells the model, the normalization and the crop; of the config only the
    data, the batch size and the computation's type count.

    Args:
      source: whatever `nest.weights.read_weights` takes.

    Raises:
      UserError: no such weights, or a dataset with other classes.
    """
    mesh = devices.data_mesh()
    weights = read_weights(source)
    print(weights.describe())
    with config.unlocked():
        config.model.image_size = weights.model["image_size"]
        config.data.mean, config.data.std = weights.mean, weights.std
        config.data.eval_crop = weights.eval_crop
    classifier_check.check_evaluation(config, mesh)
    reader = inputs.open_split(config, config.data.eval_split)
    if len(reader.source.class_names) != weights.model["num_classes"]:
        raise UserError(
            f"{source} knows {weights.model['num_classes']} classes, the dataset has "
            f"{len(reader.source.class_names)}; give the config of its dataset"
        )
    _warn_of_other_names(weights.class_names, reader.source.class_names)
    graphdef, params = nnx.split(weights.build(dtype=setup.compute_type(config)))
    _evaluate_and_print(
        config,
        graphdef,
        nnx.to_pure_dict(params),
        mesh,
        reader,
        about={"weights": source},
    )


def _warn_of_other_names(ours: tuple[str, ...] | None, theirs: tuple[str, ...]) -> None:
    if ours is None or ours == theirs:
        return
    if set(ours) == set(theirs):
        raise UserError("the weights have the dataset's classes in another order")
    print(
        f"warning: the weights call the classes {ours[0]}, {ours[1]}, ..., the dataset "
        f"{theirs[0]}, {theirs[1]}, ...; the result means something only if they are "
        f"the same in the same order",
        file=sys.stderr,
    )


def _evaluate_and_print(
    config: ml_collections.ConfigDict,
    graphdef: nnx.GraphDef,
    params: dict,
    mesh: Mesh,
    reader: Reader,
    about: dict[str, Any],
) -> None:
    hosts.agree(
        {
            "the number of test images": reader.source.num_examples,
            "the list of classes": list(reader.source.class_names),
            "the checkpoint": about.get("step"),
        }
    )
    agree_on_parameters(params)
    results, confusion = evaluate(
        setup.build_eval_step(config, graphdef, mesh),
        devices.put_everywhere(params, mesh),
        setup.build_eval_batches(config, reader),
        mesh,
    )
    check_count(results, reader)
    inputs.report_skipped(reader)
    worst = worst_classes(confusion, reader.source.class_names, count=5)
    step = f"step {about['step']}: " if "step" in about else ""
    print(f"{step}{summary(results)}")
    for row in worst:
        taken_for = ", ".join(f"{name} ({n})" for name, n in row["taken_for"].items())
        print(
            f"  class {row['class']}: recall {row['recall']:.3f} of {row['examples']}, "
            f"taken for {taken_for}"
        )
    if config.localization.method and jax.process_index() == 0:
        results["localization"] = _localize(config, graphdef, params, reader)
    about = about | {"split": config.data.eval_split}
    print(json.dumps(about | results | {"worst_classes": worst}))


def _localize(
    config: ml_collections.ConfigDict,
    graphdef: nnx.GraphDef,
    params: dict,
    reader: Reader,
) -> dict[str, Any]:
    found = evaluate_localization(config, reader, graphdef, params)
    print(
        f"localization by {found['method']} of {found['examples']} images: top-1 "
        f"error {found['top1_localization_error']:.2%}  GT-known "
        f"{found['gt_known']:.2%}  MaxBoxAccV2 {found['max_box_acc_v2']:.2%}"
    )
    return found


def check_count(results: Metrics, reader: Reader) -> None:
    """Raise RuntimeError unless every readable example was counted once."""
    expected = reader.source.num_examples - len(inputs.skipped_anywhere(reader))
    if results["examples"] != expected:
        raise RuntimeError(f"evaluated {results['examples']} examples of {expected}")


def summary(results: Metrics) -> str:
    """Say in one line what an evaluation found."""
    if not results:
        return "not evaluated yet"
    return (
        f"test accuracy {results['top1']:.2%}  top-5 {results['top5']:.2%}  "
        f"loss {results['loss']:.4f}  ({results['examples']} examples)"
    )
