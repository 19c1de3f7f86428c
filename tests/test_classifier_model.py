"""nest.models.classifier and nest.models.variants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nest import VARIANTS, create_model
from nest.models.aggregation import AGGREGATIONS
from nest.models.classifier import tiling

# arXiv 2105.12723 and the released code; 10 classes at 32 pixels, 1000 at 224.
PARAMETERS = {
    "nest_tiny_s16_32": 6_006_730,
    "nest_small_s16_32": 22_849_930,
    "nest_base_s16_32": 89_050_378,
    "nest_tiny_s196_224": 17_057_608,
    "nest_small_s196_224": 38_351_176,
    "nest_base_s196_224": 67_723_368,
}

SMALL = dict(image_size=8, layers=(2, 1), widths=(6, 12), heads=(2, 3), num_classes=5)


def small(**overrides) -> nnx.Module:
    arguments = SMALL | {"attention": "multi_head"} | overrides
    return create_model("nest_tiny_s16_32", rngs=nnx.Rngs(0), **arguments)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def logits(model: nnx.Module, x: np.ndarray) -> jax.Array:
    """Call the model jitted: op by op would compile each operation on its own."""
    graphdef, params = nnx.split(model)
    return jax.jit(lambda params, x: nnx.merge(graphdef, params)(x))(params, x)


def perturbed(model: nnx.Module) -> nnx.Module:
    """Make every parameter matter: biases and norms start at constants."""
    graphdef, params = nnx.split(model)
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(1)
    leaves = [x + 0.2 * rng.normal(size=x.shape).astype(np.float32) for x in leaves]
    return nnx.merge(graphdef, jax.tree.unflatten(structure, leaves))


def count(model: nnx.Module) -> int:
    return sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))


@pytest.mark.parametrize("name", VARIANTS)
def test_parameter_counts_are_the_published_ones(name: str):
    classes = 10 if name.endswith("_32") else 1000
    model = nnx.eval_shape(
        lambda: create_model(name, num_classes=classes, rngs=nnx.Rngs(0))
    )
    assert count(model) == PARAMETERS[name]


def numpy_forward(params: dict, x: np.ndarray, heads: tuple, block: int) -> np.ndarray:
    """NesT with multi-head attention, patch size 1, written with loops in float64."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)

    def norm(x: np.ndarray, p: dict) -> np.ndarray:
        centered = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-6)
        return centered / deviation * p["scale"] + p["bias"]

    def linear(x: np.ndarray, p: dict) -> np.ndarray:
        return x @ p["kernel"] + p["bias"]

    def attention(x: np.ndarray, p: dict, heads: int) -> np.ndarray:
        query, key, value = np.split(linear(x, p["qkv"]), 3, axis=-1)
        out = []
        for part in np.split(np.arange(x.shape[-1]), heads):
            logits = query[:, part] @ key[:, part].T / np.sqrt(len(part))
            weights = np.exp(logits)
            weights /= weights.sum(axis=-1, keepdims=True)
            out.append(weights @ value[:, part])
        return linear(np.concatenate(out, axis=-1), p["out"])

    def mlp(x: np.ndarray, p: dict) -> np.ndarray:
        x = linear(x, p["expand"])
        x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        return linear(x, p["contract"])

    def aggregate(x: np.ndarray, p: dict) -> np.ndarray:
        size = len(x)
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        out = np.zeros((size, size, p["conv"]["kernel"].shape[-1]))
        for i in range(3):
            for j in range(3):
                out += padded[i : i + size, j : j + size] @ p["conv"]["kernel"][i, j]
        out = norm(out + p["conv"]["bias"], p["norm"])
        return np.array(
            [
                [out[i : i + 3, j : j + 3].max(axis=(0, 1)) for j in range(0, size, 2)]
                for i in range(0, size, 2)
            ]
        )

    def one_image(x: np.ndarray) -> np.ndarray:
        embedding = params["patch_embedding"]
        x = x @ embedding["kernel"][0, 0] + embedding["bias"]
        for i, level in params["levels"].items():
            if "aggregation" in level:
                x = aggregate(x, level["aggregation"])
            plane = np.zeros_like(x)
            blocks_a_side = len(x) // block
            for g in range(blocks_a_side**2):
                top, left = (block * k for k in divmod(g, blocks_a_side))
                window = (slice(top, top + block), slice(left, left + block))
                tokens = x[window].reshape(block**2, -1)
                tokens = tokens + level["position_embedding"][0, g]
                for layer in level["layers"].values():
                    normed = norm(tokens, layer["attention_norm"])
                    tokens = tokens + attention(normed, layer["attention"], heads[i])
                    normed = norm(tokens, layer["mlp_norm"])
                    tokens = tokens + mlp(normed, layer["mlp"])
                plane[window] = tokens.reshape(block, block, -1)
            x = plane
        x = norm(x, params["norm"]).mean(axis=(0, 1))
        return linear(x, params["head"])

    return np.stack([one_image(image) for image in x.astype(np.float64)])


def test_logits_equal_a_plain_numpy_forward():
    model = perturbed(small())
    x = images(2, 8, 8, 3)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    expected = numpy_forward(params, x, heads=SMALL["heads"], block=4)
    assert np.abs(expected).max() > 0.1
    # float32 against float64 over six matrix products in a row.
    np.testing.assert_allclose(logits(model, x), expected, atol=2e-5)


def test_features_are_one_image_plane_per_level():
    model = small()
    x = images(2, 8, 8, 3)
    maps = model.features(x)
    assert [a.shape for a in maps] == [(2, 8, 8, 6), (2, 4, 4, 12)]
    np.testing.assert_array_equal(model.classify(maps[-1]), model(x))


@pytest.mark.parametrize("kind", AGGREGATIONS)
@pytest.mark.parametrize("attention", ["multi_head", "multi_query"])
def test_every_aggregation_and_attention_classifies(kind: str, attention: str):
    model = small(aggregation=kind, attention=attention)
    assert logits(model, images(2, 8, 8, 3)).shape == (2, 5)


def test_bfloat16_computes_in_it_and_keeps_float32_parameters():
    exact, half = small(), small(dtype=jnp.bfloat16)
    types = {x.dtype for x in jax.tree.leaves(nnx.state(half, nnx.Param))}
    assert types == {jnp.dtype("float32")}
    x = images(2, 8, 8, 3)
    maps = nnx.eval_shape(lambda: half.features(x))
    assert {a.dtype for a in maps} == {jnp.dtype("bfloat16")}
    assert logits(half, x).dtype == jnp.float32
    # bfloat16 has 8 bits; the small model's logits are below 1.
    difference = np.abs(logits(half, x) - logits(exact, x)).max()
    assert 0 < difference < 0.02


def test_the_form_of_the_gelu_reaches_every_layer():
    x = images(2, 8, 8, 3)
    model = perturbed(small(gelu="exact"))
    assert all(layer.mlp.gelu == "exact" for i in model.levels for layer in i.layers)
    # The forms differ by up to 5e-4 at every unit.
    difference = np.abs(logits(model, x) - logits(perturbed(small()), x)).max()
    assert 1e-6 < difference < 0.02


def test_remat_changes_nothing_but_the_memory():
    x = images(2, 8, 8, 3)

    def gradient(remat: bool) -> dict:
        graphdef, params = nnx.split(small(remat=remat, drop_path=0.5))

        def loss(params: dict) -> jax.Array:
            rngs = nnx.Rngs(dropout=jax.random.key(3))
            return (nnx.merge(graphdef, params)(x, rngs=rngs) ** 2).sum()

        jaxpr = str(jax.make_jaxpr(jax.grad(loss))(params))
        recomputed[remat] = jaxpr.count("prevent_cse=")  # a parameter of remat
        return nnx.to_pure_dict(jax.jit(jax.grad(loss))(params))

    recomputed: dict[bool, int] = {}

    jax.tree.map(
        # The same operations, differently fused.
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        gradient(True),
        gradient(False),
    )
    assert recomputed[True] > recomputed[False]


def test_drop_path_grows_linearly_over_all_layers():
    model = small(layers=(2, 3), drop_path=0.4)
    rates = [layer.drop_path for level in model.levels for layer in level.layers]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3, 0.4])


def test_tiling():
    assert tiling(224, 4, 3) == (4, 14)
    assert tiling(384, 4, 3) == (4, 24)
    assert tiling(32, 1, 4) == (8, 4)
    assert tiling(64, 1, 4, block_size=4) == (16, 4)  # four blocks at the top


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((225, 4, 3), "a multiple of 16; the nearest are 224 and 240"),
        ((8, 4, 3), "the nearest are 16"),
        ((48, 1, 4, 4), "a multiple of 32; the nearest are 32 and 64"),
    ],
)
def test_sizes_that_do_not_tile_name_the_nearest_that_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiling(*arguments)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"widths": (6, 12, 24)}, "one entry per level"),
        ({"heads": (2, 5)}, "width 12 is not divisible by its 5 heads"),
        ({"attention": "single"}, "no attention 'single'"),
        ({"aggregation": "mean"}, "no aggregation 'mean'"),
        ({"gelu": "erf"}, "no gelu 'erf'"),
        ({"drop_path": 1.0}, r"drop_path 1.0 is not in \[0, 1\)"),
        ({"num_classes": 0}, "num_classes 0 is not positive"),
    ],
)
def test_what_does_not_fit_together_is_refused(overrides: dict, message: str):
    with pytest.raises(ValueError, match=message):
        small(**overrides)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(batch, 8, 8, 3\), not \(2, 9, 9, 3\)"):
        small()(images(2, 9, 9, 3))


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="no model 'nest_huge'; there are: nest_tiny"):
        create_model("nest_huge", rngs=nnx.Rngs(0))


def test_other_sizes_and_class_counts_work():
    model = nnx.eval_shape(
        lambda: create_model(
            "nest_tiny_s196_224", image_size=384, num_classes=7, rngs=nnx.Rngs(0)
        )
    )
    assert model.levels[0].position_embedding.shape == (1, 16, 24 * 24, 96)
    assert model.head.kernel.shape == (384, 7)
