"""nest.weights.authors: parity with the released code, and which file is read."""

import json
import pickle
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from conftest import REFERENCE
from flax import nnx, serialization

from nest.errors import UserError
from nest.weights import Weights, read_weights
from nest.weights.arrays import flatten
from nest.weights.authors import convert

# (file, layers per level where its equal widths do not show them)
CHECKPOINTS = [("small_cifar_mq", (1, 2, 1, 1)), ("small_imagenet_mh", None)]

needs_reference = pytest.mark.skipif(
    not REFERENCE.exists(), reason="no reference outputs on this machine"
)


def read(name: str) -> Weights:
    return read_weights(REFERENCE / f"{name}.flax", layers=dict(CHECKPOINTS)[name])


@needs_reference
@pytest.mark.parametrize("name", dict(CHECKPOINTS))
def test_logits_loss_and_gradients_equal_the_released_code(name: str):
    about = json.loads((REFERENCE / f"{name}.json").read_text())
    outputs = np.load(REFERENCE / f"{name}.npz")
    weights = read(name)
    assert weights.model["name"] == about["model_name"]
    assert weights.model["num_classes"] == about["num_classes"]
    graphdef, params = nnx.split(weights.build())

    def loss(params: nnx.State) -> tuple[jax.Array, jax.Array]:
        logits = nnx.merge(graphdef, params)(outputs["images"])
        losses = optax.softmax_cross_entropy_with_integer_labels
        return losses(logits, outputs["labels"]).mean(), logits

    (value, logits), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    # float32; measured 1.8e-7 for logits up to 1.2, and 2.4e-7 relative for the norms.
    np.testing.assert_allclose(logits, outputs["logits"], atol=1e-5)
    np.testing.assert_allclose(value, outputs["loss"], rtol=1e-6)
    grads = flatten(nnx.to_pure_dict(grads))
    norms = json.loads(str(outputs["grad_norms"]))
    layers = [name for name in grads if name.endswith("attention.qkv.kernel")]
    for theirs, expected in norms.items():
        ours = gradient(grads, theirs, [name.split(".attention")[0] for name in layers])
        np.testing.assert_allclose(np.linalg.norm(ours), expected, rtol=1e-4)


def gradient(grads: dict, theirs: str, layers: list[str]) -> np.ndarray:
    """The part of our gradient that theirs of this name is."""
    module, _, last = theirs.rpartition("/")
    number = re.search(r"_(\d+)", theirs)[1]
    if module.startswith("EncoderNDBlock"):
        layer = layers[int(number)]
        inner = module.partition("/")[2]
        if "Attention" in inner:
            query_columns = grads[f"{layer}.attention.out.kernel"].shape[0]
            packed = grads.get(f"{layer}.attention.qkv.{last}")
            if inner.endswith("DenseGeneral_0"):
                return packed[..., :query_columns]
            if inner.endswith(("DenseGeneral_1", "/Dense_0")):
                return packed[..., query_columns:]
            return grads[f"{layer}.attention.out.{last.removeprefix('proj_')}"]
        names = {
            "LayerNorm_0": "attention_norm",
            "LayerNorm_1": "mlp_norm",
            "MlpBlock_0/Dense_0": "mlp.expand",
            "MlpBlock_0/Dense_1": "mlp.contract",
        }
        return grads[f"{layer}.{names[inner]}.{last}"]
    if module.startswith("ConvPool"):
        part = "conv" if module.endswith("Conv_0") else "norm"
        return grads[f"levels.{int(number) + 1}.aggregation.{part}.{last}"]
    if last == "pos_embedding":
        return grads[f"levels.{number}.position_embedding"]
    names = {
        "PatchEmbedding_0/Conv_0": "patch_embedding",
        "LayerNorm_0": "norm",
        "Dense_0": "head",
    }
    return grads[f"{names[module]}.{last}"]


@needs_reference
def test_layers_that_the_widths_do_not_show_are_asked_for(tmp_path: Path):
    file = REFERENCE / "small_cifar_mq.flax"
    with pytest.raises(UserError, match="5 layers of width 24 do not divide over 4"):
        read_weights(file)
    with pytest.raises(UserError, match=r"5 transformer layers, not layers=\(1, 1\)"):
        read_weights(file, layers=(1, 1))


@needs_reference
def test_what_the_file_leaves_open_counts_as_assumed():
    weights = read("small_imagenet_mh")
    assert weights.model["gelu"] == "tanh"
    assert "heads" not in weights.model  # the variant's own, seen in the file
    assert weights.eval_crop == 224 / 256
    assert weights.assumed == ("mean", "std", "eval_crop")
    assert weights.report.new == weights.report.unused == ()


@pytest.fixture
def tree() -> dict:
    """The parameters of the smallest reference, as the authors nest them."""
    if not REFERENCE.exists():
        pytest.skip("no reference outputs on this machine")
    content = (REFERENCE / "small_cifar_mq.flax").read_bytes()
    return serialization.msgpack_restore(content)


def write(file: Path, tree: dict) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(serialization.msgpack_serialize(tree))
    return file


def marked(tree: dict, mark: float) -> dict:
    target = tree["optimizer"]["target"]
    target = target | {"LayerNorm_0": {k: x * 0 + mark for k, x in marks(target)}}
    return {"optimizer": {"target": target}}


def marks(target: dict) -> list[tuple[str, np.ndarray]]:
    return list(target["LayerNorm_0"].items())


def mark_of(source: Path) -> float:
    return read_weights(source, layers=(1, 2, 1, 1)).params["norm"]["bias"][0]


@pytest.mark.parametrize("folder", ["", "checkpoints-0"])
def test_a_folder_is_its_newest_and_a_file_is_itself(tree, folder, tmp_path: Path):
    for number in (9, 10, 2):
        write(tmp_path / folder / f"ckpt-{number}.flax", marked(tree, number))
    assert mark_of(tmp_path) == 10
    assert mark_of(tmp_path / folder / "ckpt-2.flax") == 2
    write(tmp_path / folder / "ckpt.39", marked(tree, 39))
    assert mark_of(tmp_path) == 39
    assert mark_of(tmp_path / folder / "ckpt-9.flax") == 9
    assert mark_of(tmp_path / folder / "ckpt.39") == 39


def test_parameters_without_an_optimizer_are_read(tree, tmp_path: Path):
    target = marked(tree, 3)["optimizer"]["target"]
    for content in (target, {"params": target}):
        assert mark_of(write(tmp_path / "bare.flax", content)) == 3


def test_three_layers_a_level_are_shared_out_evenly():
    rng = np.random.default_rng(0)
    arrays = {f"PositionEmbedding_{i}/pos_embedding": (1, 1, 4, 6) for i in range(2)}
    for i in range(6):
        layer, attention = f"EncoderNDBlock_{i}", "MultiHeadAttention_0"
        arrays |= {
            f"{layer}/LayerNorm_0/scale": (6,),
            f"{layer}/{attention}/DenseGeneral_0/kernel": (6, 2, 3),
            f"{layer}/{attention}/DenseGeneral_0/bias": (2, 3),
            f"{layer}/{attention}/DenseGeneral_1/kernel": (6, 2, 6),
            f"{layer}/{attention}/DenseGeneral_1/bias": (2, 6),
            f"{layer}/{attention}/proj_kernel": (2, 3, 6),
            f"{layer}/{attention}/bias": (6,),
        }
    arrays = {name: rng.normal(size=shape) for name, shape in arrays.items()}
    ours, told = convert(arrays)
    assert told == {"heads": (2, 2), "assumed": ("layers",)}
    assert "levels.1.layers.2.attention.qkv.bias" in ours
    # The second head's key: after the query and the first head's key.
    np.testing.assert_array_equal(
        ours["levels.0.layers.0.attention.qkv.kernel"][:, 9:12],
        arrays["EncoderNDBlock_0/MultiHeadAttention_0/DenseGeneral_1/kernel"][:, 1, :3],
    )


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"\x81\xa1a" * 5000,  # deeper than msgpack goes
        b"\x92\x01\x02",
        b"\xc7\x04\x01junk",  # an array that is none
        # An array of objects: pointers, if numpy took them from the file.
        b"\x81\xa1a\xc7\x14\x01\x93\x91\x01\xc4\x06object\xc4\x08" + bytes(8),
    ],
)
def test_what_is_no_checkpoint_is_one_line(content: bytes, tmp_path: Path):
    file = tmp_path / "ckpt-1.flax"
    file.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(file))) as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)


def test_a_pickle_under_another_name_does_not_run(tmp_path: Path):
    file, marker = tmp_path / "ckpt-1.flax", tmp_path / "ran"
    file.write_bytes(pickle.dumps({"a": Payload(marker)}))
    with pytest.raises(UserError, match="or damaged"):
        read_weights(file)
    assert not marker.exists()


@needs_reference
def test_a_truncated_checkpoint_is_one_line(tmp_path: Path):
    file = tmp_path / "ckpt-1.flax"
    shutil.copy(REFERENCE / "small_cifar_mq.flax", file)
    file.chmod(0o600)
    with file.open("r+b") as content:
        content.truncate(100_000)
    with pytest.raises(UserError, match=r"damaged .* get it again"):
        read_weights(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("LayerNorm_0"), "missing norm.bias, norm.scale"),
        (lambda t: t.pop("EncoderNDBlock_1"), "missing EncoderNDBlock_1/LayerNorm_0"),
        (
            lambda t: t["EncoderNDBlock_2"]["MultiQueryAttention_0"].pop("proj_kernel"),
            "EncoderNDBlock_2's proj_kernel",
        ),
        (lambda t: t.update(Dense_1={"bias": np.ones(3)}), "unexpected Dense_1/bias"),
        (
            lambda t: t.update(LayerNorm_0={"bias": np.ones(3), "scale": np.ones(24)}),
            r"wrong shape norm.bias \(3,\), not \(24,\)",
        ),
        (lambda t: t.pop("PositionEmbedding_3"), "it has 3 levels"),
    ],
)
def test_what_does_not_fit_is_named(tree, change, message: str, tmp_path: Path):
    change(tree["optimizer"]["target"])
    file = write(tmp_path / "ckpt-1.flax", tree)
    with pytest.raises(UserError, match=message):
        read_weights(file, layers=(1, 2, 1, 1))
