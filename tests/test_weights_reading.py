"""nest.weights.reading, writing and weights: round trips, and every bad input."""

import json
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from conftest import assert_same_weights, random_weights, small_arguments

from nest import VARIANTS
from nest.errors import UserError
from nest.weights import Weights, read_weights, write_weights
from nest.weights.arrays import flatten, unflatten
from nest.weights.files import read_safetensors, write_safetensors


def written(file: Path, **fields) -> Weights:
    weights = random_weights(small_arguments("nest_tiny_s196_224"), **fields)
    write_weights(weights, file)
    return weights


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("aggregation", ["conv_max_pool", "conv_avg_pool"])
def test_our_layout_there_and_back_is_exact(name, aggregation, tmp_path: Path):
    arguments = small_arguments(name, aggregation=aggregation, gelu="exact")
    about = dict(class_names=tuple("abcdefg"), eval_crop=0.9, assumed=("heads",))
    weights = random_weights(arguments | {"drop_path": 0.07}, **about)
    write_weights(weights, tmp_path / "a.safetensors")
    again = read_weights(tmp_path / "a.safetensors")
    assert_same_weights(weights, again)
    assert again.model["drop_path"] == 0.07
    assert again.build().levels[0].layers[0].mlp.gelu == "exact"


def test_without_metadata_the_published_is_assumed(tmp_path: Path):
    weights = random_weights(small_arguments("nest_tiny_s16_32"))
    file = tmp_path / "bare.safetensors"
    write_safetensors(file, flatten(weights.params), {})
    read = read_weights(file)
    assert read.model == weights.model
    assert read.assumed == ("gelu", "mean", "std", "eval_crop")
    assert "assumed  gelu=tanh, mean=(0.4914" in read.describe()
    assert "source   bare.safetensors" in read.describe()


def change_arrays(file: Path, change) -> None:
    arrays, metadata = read_safetensors(file)
    change(arrays)
    write_safetensors(file, arrays, metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("norm.bias"), "missing norm.bias$"),
        (lambda a: a.update(extra=np.ones(3)), "unexpected extra$"),
        (
            lambda a: a.update({"norm.bias": np.ones(5)}),
            r"wrong shape norm.bias \(5,\), not \(48,\)",
        ),
        (
            lambda a: [a.pop(k) for k in list(a) if k.startswith("levels.2.layers.1.")],
            r"layers=\(1, 1, 2\) is told, \(1, 1, 1\) are the shapes'",
        ),
        (
            lambda a: a.update({"norm.bias": np.ones(48, np.int32)}),
            "norm.bias holds int32, not floating-point",
        ),
        (
            lambda a: a.update(
                {"levels.0.position_embedding": np.ones((1, 15, 9, 12), "f4")}
            ),
            "15 blocks are no square",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(change, message: str, tmp_path: Path):
    file = tmp_path / "a.safetensors"
    written(file)
    change_arrays(file, change)
    with pytest.raises(UserError, match=message) as caught:
        read_weights(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_what_is_allowed_is_reported(tmp_path: Path):
    file = tmp_path / "a.safetensors"
    weights = written(file)

    def change(arrays: dict) -> None:
        del arrays["norm.bias"], arrays["head.kernel"], arrays["head.bias"]
        arrays["extra.one"] = np.ones(3)

    change_arrays(file, change)
    read = read_weights(file, allow=("extra.*", "norm.bias", "head.*"))
    assert set(read.report.new) == {"norm.bias", "head.kernel", "head.bias"}
    assert read.report.unused == ("extra.one",)
    assert read.model == weights.model
    assert "unused   extra.one" in read.describe()
    np.testing.assert_array_equal(read.params["norm"]["bias"], 0)
    assert "norm.scale" in read.report.loaded


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_becomes_float32(half: type, tmp_path: Path):
    file = tmp_path / "a.safetensors"
    weights = written(file)
    change_arrays(file, lambda a: a.update({k: a[k].astype(half) for k in a}))
    read = read_weights(file)
    assert {x.dtype for x in jax.tree.leaves(read.params)} == {np.dtype("f4")}
    expected = weights.params["head"]["kernel"].astype(half).astype(np.float32)
    np.testing.assert_array_equal(read.params["head"]["kernel"], expected)


def change_metadata(file: Path, change) -> None:
    arrays, metadata = read_safetensors(file)
    fields = json.loads(metadata["nest"])
    text = change(fields)
    metadata["nest"] = text if isinstance(text, str) else json.dumps(fields)
    write_safetensors(file, arrays, metadata)


def model(**changes):
    return lambda fields: fields["model"].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: "not json", "metadata is damaged"),
        (lambda f: "[" * 100_000, "nested too deeply"),
        (lambda f: "[]", "the fields are not"),
        (lambda f: f.pop("mean") and None, "the fields are not"),
        (model(name="vit"), "no name of a published variant"),
        (model(layers=[1, 1, 10**9]), r"layers=\(1, 1, 1000000000\) is told"),
        (model(patch_size=0), "no model has patch_size=0"),
        (model(widths=[12, "x", 48]), "no model has widths="),
        (model(rngs=3), "no model has rngs=3"),
        (model(gelu="relu"), "no gelu 'relu'"),
        (model(drop_path=float("nan")), "drop_path nan"),
        (model(attention="multi_query"), "wrong shape levels.0.layers.0"),
        (model(heads=[5, 6, 12]), "width 12 is not divisible by its 5 heads"),
        (lambda f: f.update(mean=[0.5]), "does not fit 3 channels"),
        (lambda f: f.update(std=[0, 0, 0]), "is not positive"),
        (lambda f: f.update(eval_crop=0), "eval_crop is not in"),
        (lambda f: f.update(class_names=["a"]), "names 1 classes and has 7"),
        (lambda f: f.update(class_names=[1] * 7), "class_names is no list of strings"),
        (lambda f: f.update(source=3), "source is no string"),
    ],
)
def test_metadata_that_makes_no_sense_is_one_line(change, message, tmp_path: Path):
    file = tmp_path / "a.safetensors"
    written(file)
    change_metadata(file, change)
    with pytest.raises(UserError, match=message) as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)


def test_a_vision_transformer_is_no_nest(tmp_path: Path):
    names = ["cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight"]
    names += [f"blocks.{i}.norm1.weight" for i in range(12)]
    file = tmp_path / "vit.safetensors"
    write_safetensors(file, {name: np.ones((2, 2), "f4") for name in names}, {})
    with pytest.raises(UserError, match=r"not a NesT: it has blocks.0.norm1.weight"):
        read_weights(file)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none.safetensors", "no file or folder .*none.safetensors"),
        ("none:best", "no file or folder .*none; on the hub, names begin with hf-hub:"),
        ("empty", "no weights in .*empty: a workdir has checkpoints/"),
        ("notes.txt", "of no known kind"),
        ("cut.safetensors", "or damaged"),
        ("folder.safetensors", "no weights in"),
    ],
)
def test_nothing_to_read_is_one_line(source: str, message: str, tmp_path: Path):
    for folder in ("empty", "folder.safetensors"):
        (tmp_path / folder).mkdir()
    (tmp_path / "notes.txt").write_text("notes")
    written(tmp_path / "cut.safetensors")
    content = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-100])
    with pytest.raises(UserError, match=message) as caught:
        read_weights(tmp_path / source)
    assert "\n" not in str(caught.value)


def test_a_wrong_layout_or_name_is_refused(tmp_path: Path):
    weights = random_weights(small_arguments("nest_tiny_s16_32"))
    with pytest.raises(UserError, match="no layout 'torch'; there are: nest, timm"):
        write_weights(weights, tmp_path / "a.safetensors", layout="torch")
    with pytest.raises(UserError, match=r"a.pth must end in \.safetensors"):
        write_weights(weights, tmp_path / "a.pth")


def test_parameters_are_those_of_the_model():
    weights = random_weights(small_arguments("nest_tiny_s16_32"))
    assert set(weights.params["levels"]) == {0, 1, 2, 3}
    again = unflatten(flatten(weights.params))
    assert jax.tree.structure(again) == jax.tree.structure(weights.params)
    built = weights.build()
    kernel = built.levels[1].layers[1].mlp.expand.kernel[...]
    expected = weights.params["levels"][1]["layers"][1]["mlp"]["expand"]["kernel"]
    np.testing.assert_array_equal(kernel, expected)
