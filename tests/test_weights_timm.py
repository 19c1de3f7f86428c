"""nest.weights.timm: both ways without loss, and the logits of timm's own model."""

from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import assert_same_weights, random_weights, small_arguments
from flax import nnx

from nest import VARIANTS
from nest.errors import UserError
from nest.weights import Weights, read_weights, write_weights
from nest.weights.arrays import flatten
from nest.weights.files import read_safetensors, write_safetensors
from nest.weights.timm import from_timm, nest_arguments, to_timm


def logits(weights: Weights, images: np.ndarray) -> np.ndarray:
    graphdef, params = nnx.split(weights.build())
    return jax.jit(lambda p, x: nnx.merge(graphdef, p)(x))(params, images)


@pytest.mark.parametrize("name", VARIANTS)
def test_there_and_back_is_exact(name: str, tmp_path: Path):
    weights = random_weights(small_arguments(name), class_names=tuple("abcdefg"))
    write_weights(weights, tmp_path / "timm.safetensors", layout="timm")
    again = read_weights(tmp_path / "timm.safetensors")
    assert_same_weights(weights, again)
    write_weights(again, tmp_path / "ours.safetensors")
    assert_same_weights(weights, read_weights(tmp_path / "ours.safetensors"))


def test_arrays_lie_as_pytorch_has_them():
    weights = random_weights(small_arguments("nest_tiny_s196_224"))
    ours = flatten(weights.params)
    theirs = to_timm(ours, weights.model)
    assert theirs["patch_embed.proj.weight"].shape == (12, 3, 4, 4)
    assert theirs["levels.1.pool.conv.weight"].shape == (24, 12, 3, 3)
    assert (
        theirs["levels.1.pool.conv.weight"][5, 2, 0, 1]
        == ours["levels.1.aggregation.conv.kernel"][0, 1, 2, 5]
    )
    qkv = theirs["levels.0.transformer_encoder.0.attn.qkv.weight"]
    assert qkv.shape == (36, 12) and qkv.flags.c_contiguous
    np.testing.assert_array_equal(qkv.T, ours["levels.0.layers.0.attention.qkv.kernel"])


def test_attended_heads_are_joined_channel_before_head():
    weights = random_weights(small_arguments("nest_tiny_s196_224"))
    ours = flatten(weights.params)
    projection = to_timm(ours, weights.model)[
        "levels.1.transformer_encoder.0.attn.proj.weight"
    ]
    kernel = ours["levels.1.layers.0.attention.out.kernel"]
    heads, head_dim = 6, 4
    for head in range(heads):
        for channel in range(head_dim):
            np.testing.assert_array_equal(
                projection[:, channel * heads + head], kernel[head * head_dim + channel]
            )


@pytest.mark.parametrize("shape", [(), (0,), (0, 12), (12, 0), (3, 3, 3), (3, 3, 3, 3)])
@pytest.mark.parametrize("part", ["attn.qkv.weight", "attn.proj.weight", "norm1.bias"])
def test_an_array_of_any_shape_is_one_line(part: str, shape: tuple, tmp_path: Path):
    weights = random_weights(small_arguments("nest_tiny_s196_224"))
    arrays = to_timm(flatten(weights.params), weights.model)
    arrays[f"levels.0.transformer_encoder.0.{part}"] = np.ones(shape, "f4")
    file = tmp_path / "a.safetensors"
    write_safetensors(file, arrays, {})
    with pytest.raises(UserError, match=r"wrong shape levels.0.|missing levels.0.lay"):
        read_weights(file, heads=(3, 6, 12))


def test_an_unknown_array_keeps_its_name():
    assert list(from_timm({"head.fc.weight": np.ones((2, 3))})) == ["head.fc.weight"]


def test_a_file_of_timm_itself_is_taken_with_the_exact_gelu(tmp_path: Path):
    weights = random_weights(small_arguments("nest_tiny_s196_224"))
    arrays = to_timm(flatten(weights.params), weights.model)
    heads = (3, 6, 12)
    for name, gelu in (("model", "exact"), ("jx_nest_tiny-e3428fb9", "tanh")):
        write_safetensors(tmp_path / f"{name}.safetensors", arrays, {})
        read = read_weights(tmp_path / f"{name}.safetensors", heads=heads)
        assert read.model["gelu"] == gelu
        assert read.assumed == ("gelu", "mean", "std", "eval_crop")
        jax.tree.map(np.testing.assert_array_equal, read.params, weights.params)
    told = read_weights(tmp_path / "model.safetensors", heads=heads, gelu="tanh")
    assert told.model == weights.model
    assert "gelu" not in told.assumed


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"aggregation": "patch_merging"}, "published aggregation only"),
        ({"block_size": 1}, "one block at the top, not 1-token blocks at 48"),
    ],
)
def test_what_timm_lacks_is_refused(overrides: dict, message: str, tmp_path: Path):
    weights = random_weights(small_arguments("nest_tiny_s196_224", **overrides))
    with pytest.raises(UserError, match=message):
        write_weights(weights, tmp_path / "a.safetensors", layout="timm")
    assert not list(tmp_path.iterdir())


def test_key_heads_that_differ_are_not_multi_query(tmp_path: Path):
    file = tmp_path / "a.safetensors"
    write_weights(
        random_weights(small_arguments("nest_tiny_s16_32")), file, layout="timm"
    )
    arrays, metadata = read_safetensors(file)
    name = "levels.0.transformer_encoder.0.attn.qkv.bias"
    arrays[name] = arrays[name].copy()
    arrays[name][14] += 1
    write_safetensors(file, arrays, metadata)
    with pytest.raises(UserError, match="key and value heads that differ"):
        read_weights(file)


@pytest.mark.slow
@pytest.mark.parametrize("gelu", ["exact", "tanh"])
@pytest.mark.parametrize(
    ("name", "timm_name", "small"),
    [
        ("nest_tiny_s196_224", "nest_tiny_jx", False),
        ("nest_small_s196_224", "nest_small_jx", False),
        ("nest_base_s196_224", "nest_base_jx", False),
        ("nest_tiny_s196_224", None, True),
        ("nest_tiny_s16_32", None, True),
    ],
)
def test_timm_computes_the_same(name, timm_name, small, gelu, tmp_path: Path):
    timm = pytest.importorskip("timm")
    torch = pytest.importorskip("torch")
    arguments = small_arguments(name, gelu=gelu)
    if not small:
        arguments = VARIANTS[name] | dict(name=name, num_classes=1000, gelu=gelu)
    weights = random_weights(arguments, scale=0.2 if small else 0.02)
    file = tmp_path / "model.safetensors"
    write_weights(weights, file, layout="timm")
    form = {"act_layer": timm.layers.GELUTanh} if gelu == "tanh" else {}
    if timm_name:
        theirs = timm.create_model(timm_name, checkpoint_path=str(file), **form)
    else:
        theirs = timm.models.nest.Nest(**nest_arguments(weights.model), **form)
        timm.models.load_checkpoint(theirs, str(file), strict=True)
    size = weights.build().image_size
    images = np.random.default_rng(1).normal(size=(1, size, size, 3)).astype("f4")
    with torch.inference_mode():
        expected = theirs.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    ours = logits(weights, images)
    assert np.abs(ours).max() > 0.1
    difference = np.abs(ours - expected.numpy()).max()
    print(f"{name} {gelu}: largest difference {difference:.1e}")
    # float32 through up to 24 layers; logits up to about 3.
    assert difference < 1e-4
