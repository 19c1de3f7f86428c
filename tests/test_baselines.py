"""nest.models.baselines: published counts, plain numpy, and timm's own models."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import jitted
from flax import nnx

from configs import (
    cifar_baselines,
    cifar_nest,
    imagenet_baselines,
    imagenet_nest,
)
from nest import BASELINES, create_model
from nest.errors import UserError
from nest.models.baselines.swin import (
    SwinLayer,
    WindowAttention,
    relative_positions,
    shifted_mask,
)
from nest.training.classifier_setup import build_model
from nest.weights.arrays import flatten, unflatten

# 1000 classes at 224 pixels: DeiT's, torchvision's and Swin's released models, as timm
# 1.0.31 counts them. WideResNet: arXiv 1605.07146 says 36.5M for 10 classes.
PARAMETERS = {
    ("deit_tiny_patch16_224", 1000): 5_717_416,
    ("deit_small_patch16_224", 1000): 22_050_664,
    ("deit_base_patch16_224", 1000): 86_567_656,
    ("resnet50", 1000): 25_557_032,
    ("swin_tiny_patch4_window7_224", 1000): 28_288_354,
    ("wide_resnet_28_10", 10): 36_479_194,
    ("wide_resnet_28_10", 100): 36_536_884,
    # 16 * 16 - 4 * 4 values less per patch and channel, 196 - 64 positions less.
    ("deit_tiny_patch4_32", 1000): 5_717_416 - 192 * (240 * 3 + 132),
    ("deit_small_patch4_32", 1000): 22_050_664 - 384 * (240 * 3 + 132),
    ("deit_base_patch4_32", 1000): 86_567_656 - 768 * (240 * 3 + 132),
    # 4 * 4 - 2 * 2 less per patch; tables of 13 * 13 become 7 * 7, at the top 3 * 3.
    ("swin_tiny_patch2_window4_32", 1000): 28_288_354
    - 96 * 12 * 3
    - 120 * (2 * 3 + 2 * 6 + 6 * 12)
    - 160 * 2 * 24,
}

SMALL = {
    "deit_tiny_patch16_224": dict(
        image_size=8, patch_size=4, layers=(2,), widths=(12,), heads=(3,)
    ),
    "swin_tiny_patch4_window7_224": dict(
        image_size=16,
        patch_size=2,
        block_size=4,
        layers=(2, 1),
        widths=(8, 16),
        heads=(2, 4),
    ),
    "resnet50": dict(image_size=16, layers=(1, 2), widths=(4, 6)),
    "wide_resnet_28_10": dict(image_size=8, layers=(1, 2), widths=(4, 6)),
}
TRANSFORMERS = ("deit_tiny_patch16_224", "swin_tiny_patch4_window7_224")


def small(name: str, **overrides) -> nnx.Module:
    """Shapes only: drawing the parameters one by one takes seconds."""
    arguments = SMALL[name] | dict(num_classes=5) | overrides
    return nnx.eval_shape(lambda: create_model(name, rngs=nnx.Rngs(0), **arguments))


def filled(model: nnx.Module, *, scale: float = 0.2) -> nnx.Module:
    """Make every array matter, and keep what scales or is a variance positive."""
    graphdef, state = nnx.split(model)
    rng = np.random.default_rng(1)
    arrays = {}
    for name, x in flatten(nnx.to_pure_dict(state)).items():
        noise = scale * rng.normal(size=x.shape)
        if name.endswith(("scale", "var")):
            noise = 1 + np.abs(noise)
        arrays[name] = noise.astype(np.float32)
    return nnx.merge(graphdef, unflatten(arrays))


def images(model: nnx.Module, count: int = 2) -> np.ndarray:
    shape = (count, model.image_size, model.image_size, model.in_channels)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def logits(model: nnx.Module, x: np.ndarray) -> jax.Array:
    return jitted(lambda model, x: model(x), model, x)


@pytest.mark.parametrize(("name", "classes"), PARAMETERS)
def test_parameter_counts_are_the_published_ones(name: str, classes: int):
    model = nnx.eval_shape(
        lambda: create_model(name, num_classes=classes, rngs=nnx.Rngs(0))
    )
    params = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(x.size for x in params) == PARAMETERS[name, classes]


def test_every_baseline_is_counted():
    assert {name for name, _ in PARAMETERS} == set(BASELINES)


@pytest.mark.parametrize(
    ("module", "variant"),
    [(imagenet_baselines, variant) for variant in imagenet_baselines.MODELS]
    + [(cifar_baselines, variant) for variant in cifar_baselines.MODELS]
    + [(cifar_baselines, "wrn_28_10_100")],
)
def test_every_config_builds_its_model(module, variant: str):
    config = module.get_config(variant)
    classes = {"imagenet2012": 1000, "cifar10": 10, "cifar100": 100}
    count = classes[config.data.dataset]
    model = nnx.eval_shape(lambda: build_model(config, count))
    assert model.num_classes == count
    assert model.image_size == (224 if module is imagenet_baselines else 32)
    assert type(model) is BASELINES[config.model.name][0]
    # In all else the recipe is NesT's.
    nest = (imagenet_nest if module is imagenet_baselines else cifar_nest).get_config()
    nest.data.update(config.data if variant.endswith("_100") else {})
    with nest.unlocked(), config.unlocked():
        del nest.model, config.model
    assert config.to_json() == nest.to_json()


@pytest.mark.parametrize("module", [imagenet_baselines, cifar_baselines])
def test_an_unknown_baseline_is_named(module):
    with pytest.raises(UserError, match="has no 'deit_huge'; use deit_tiny,"):
        module.get_config("deit_huge")


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_remat_changes_nothing(name: str):
    x = images(small(name))

    def gradient(remat: bool) -> nnx.State:
        layers = (1,) * len(SMALL[name]["layers"])
        model = filled(small(name, layers=layers, drop_path=0.5, remat=remat))

        def loss(params: nnx.State) -> jax.Array:
            rngs = nnx.Rngs(dropout=3)
            return (nnx.merge(graphdef, params)(x, rngs=rngs) ** 2).sum()

        graphdef, params = nnx.split(model)
        return jax.jit(jax.grad(loss))(params)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        nnx.to_pure_dict(gradient(True)),
        nnx.to_pure_dict(gradient(False)),
    )


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_rngs_turn_drop_path_on(name: str):
    model = filled(small(name, drop_path=0.9))
    x = images(model)

    def train(model: nnx.Module, key: jax.Array) -> jax.Array:
        return model(x, rngs=nnx.Rngs(dropout=key))

    keys = jax.random.split(jax.random.key(0))
    first, second = jitted(jax.vmap(train, (None, 0)), model, keys)
    assert not np.allclose(first, second)


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "resnet50"])
def test_bfloat16_computes_about_the_same(name: str):
    exact = filled(small(name))
    coarse = filled(small(name, dtype=jnp.bfloat16))
    x = images(exact)
    assert logits(coarse, x).dtype == np.float32
    # bfloat16 has 8 bits; the logits are of the order of 1.
    np.testing.assert_allclose(logits(coarse, x), logits(exact, x), atol=0.15)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("resnet50", dict(aggregation="max_pool", gelu="tanh"), "no aggregation, gelu"),
        ("deit_tiny_patch16_224", dict(block_size=4), "no block_size; leave that None"),
        ("deit_tiny_patch16_224", dict(layers=(2, 2)), "each of 1 level"),
        ("deit_tiny_patch16_224", dict(image_size=9), "image_size 9 does not tile"),
        ("deit_tiny_patch16_224", dict(drop_path=1.0), "drop_path 1.0 is not in"),
        ("swin_tiny_patch4_window7_224", dict(heads=(3, 4)), "not divisible by its 3"),
        ("swin_tiny_patch4_window7_224", dict(block_size=3), "windows of 6 pixels"),
        (
            "swin_tiny_patch4_window7_224",
            dict(image_size=18),
            "2 levels of patches of 4 pixels",
        ),
        ("wide_resnet_28_10", dict(widths=(4,)), "one positive number for each of 2"),
        ("wide_resnet_28_10", dict(image_size=9), "strides of 2 pixels"),
    ],
)
def test_what_does_not_fit_is_named(name: str, overrides: dict, message: str):
    with pytest.raises(ValueError, match=message):
        small(name, **overrides)


@pytest.mark.parametrize("name", SMALL)
def test_images_of_another_size_are_refused(name: str):
    model = small(name)
    with pytest.raises(ValueError, match="this model takes images of shape"):
        model(np.zeros((1, 4, 4, 3), np.float32))


def test_two_tokens_meet_only_if_they_were_near():
    """By brute force: which pixels of the plane share a window of the shifted grid."""
    side, window, shift = 6, 3, 1
    mask = shifted_mask(side, window, shift)
    assert mask.shape == (4, 9, 9)
    for g in range(4):
        top, left = (window * k for k in divmod(g, 2))
        places = [(top + i, left + j) for i in range(window) for j in range(window)]
        for a, (row, column) in enumerate(places):
            for b, (other_row, other_column) in enumerate(places):
                # Where they lay before the roll.
                rows = [(r + shift) % side for r in (row, other_row)]
                columns = [(c + shift) % side for c in (column, other_column)]
                near = (
                    abs(rows[0] - rows[1]) < window
                    and abs(columns[0] - columns[1]) < window
                )
                assert (mask[g, a, b] == 0) == near


@pytest.mark.parametrize("shift", [0, 1])
def test_who_sees_whom(shift: int):
    """Windows end `shift` tokens after the multiples of 3, and nothing wraps around."""
    layer = SwinLayer(
        4,
        2,
        window=3,
        shift=shift,
        drop_path=0.0,
        gelu="exact",
        dtype=jnp.float32,
        rngs=nnx.Rngs(0),
    )
    x = np.random.default_rng(3).normal(size=(1, 6, 6, 4)).astype(np.float32)

    def means(layer: SwinLayer, x: jax.Array) -> jax.Array:
        return layer(x)[0].reshape(36, 4) @ jnp.arange(1.0, 5.0)

    seen = jitted(jax.jacrev(means, argnums=1), filled(layer), x)
    seen = np.abs(seen).sum(axis=(1, -1)).reshape(36, 36) > 0
    window = (np.arange(6) - shift) // 3
    of_token = np.stack([np.repeat(window, 6), np.tile(window, 6)], axis=1)
    same = (of_token[:, None] == of_token[None]).all(axis=-1)
    np.testing.assert_array_equal(seen, same)


def test_windows_attend_with_the_bias_of_the_relative_position():
    """One head, one window, by loops."""
    window, width = 2, 3
    layer = WindowAttention(width, 1, window=window, dtype=np.float32, rngs=nnx.Rngs(0))
    layer = filled(layer, scale=1.0)
    p = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(layer)))
    x = np.random.default_rng(2).normal(size=(4, width)).astype(np.float32)
    query, key, value = np.split(x @ p["qkv"]["kernel"] + p["qkv"]["bias"], 3, axis=1)
    weights = np.zeros((4, 4))
    table = p["position_bias"][:, 0].reshape(3, 3)
    for a in range(4):
        for b in range(4):
            down, right = a // 2 - b // 2, a % 2 - b % 2
            bias = table[down + 1, right + 1]
            weights[a, b] = np.exp(query[a] @ key[b] / np.sqrt(width) + bias)
    weights /= weights.sum(axis=1, keepdims=True)
    expected = weights @ value @ p["out"]["kernel"] + p["out"]["bias"]
    result = layer(x[None, None])[0, 0]
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    assert relative_positions(7).max() == 168


def convolve(x: np.ndarray, kernel: np.ndarray, stride: int = 1) -> np.ndarray:
    """(B, H, W, C), zeros around, by the kernel's places."""
    size = len(kernel)
    around = ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0))
    padded, side = np.pad(x, around), x.shape[1]
    out = 0
    for i in range(size):
        for j in range(size):
            moved = padded[:, i : i + side : stride, j : j + side : stride]
            out = out + moved @ kernel[i, j]
    return out


class NumpyNorm:
    """Batch normalization; notes the running statistics that training would leave."""

    def __init__(self, training: bool):
        self.training = training
        self.running = {}

    def __call__(self, x: np.ndarray, p: dict, name: str = "") -> np.ndarray:
        mean, var = p["mean"], p["var"]
        if self.training:
            mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
            self.running[id(p)] = (
                0.9 * p["mean"] + 0.1 * mean,
                0.9 * p["var"] + 0.1 * var,
            )
        return (x - mean) / np.sqrt(var + 1e-5) * p["scale"] + p["bias"]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def numpy_wide_resnet(p: dict, x: np.ndarray, norm: NumpyNorm) -> np.ndarray:
    x = convolve(x, p["stem"]["kernel"])
    for k, stride in enumerate((1, 2, 1)):
        layer = p["layers"][k]
        activated = relu(norm(x, layer["first_norm"]))
        y = convolve(activated, layer["first"]["kernel"], stride)
        y = convolve(relu(norm(y, layer["second_norm"])), layer["second"]["kernel"])
        if "shortcut" in layer:
            x = convolve(activated, layer["shortcut"]["kernel"], stride)
        x = x + y
    x = relu(norm(x, p["norm"])).mean(axis=(1, 2))
    return x @ p["head"]["kernel"] + p["head"]["bias"]


def numpy_resnet(p: dict, x: np.ndarray, norm: NumpyNorm) -> np.ndarray:
    x = relu(norm(convolve(x, p["stem"]["kernel"], 2), p["stem_norm"]))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    side = x.shape[1]
    x = np.max(
        [
            padded[:, i : i + side : 2, j : j + side : 2]
            for i in (0, 1, 2)
            for j in (0, 1, 2)
        ],
        axis=0,
    )
    for k, stride in enumerate((1, 2, 1)):
        layer = p["layers"][k]
        y = relu(norm(convolve(x, layer["reduce"]["kernel"]), layer["reduce_norm"]))
        y = convolve(y, layer["conv"]["kernel"], stride)
        y = convolve(relu(norm(y, layer["conv_norm"])), layer["expand"]["kernel"])
        y = norm(y, layer["expand_norm"])
        if "shortcut" in layer:
            x = convolve(x, layer["shortcut"]["kernel"], stride)
            x = norm(x, layer["shortcut_norm"])
        x = relu(x + y)
    return x.mean(axis=(1, 2)) @ p["head"]["kernel"] + p["head"]["bias"]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("name", "by_numpy"),
    [("wide_resnet_28_10", numpy_wide_resnet), ("resnet50", numpy_resnet)],
)
def test_convolutional_baselines_against_numpy(name: str, by_numpy, training: bool):
    model = filled(small(name))
    x = images(model, 4)
    state = nnx.to_pure_dict(nnx.state(model))
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), state)
    norm = NumpyNorm(training)
    expected = by_numpy(p, x.astype(np.float64), norm)

    def run(model: nnx.Module) -> tuple[jax.Array, dict]:
        rngs = nnx.Rngs(dropout=0) if training else None
        return model(x, rngs=rngs), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

    result, statistics = jitted(run, model)
    # float32 through ten normalizations; logits of the order of 1.
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4)
    if not training:
        jax.tree.map(
            np.testing.assert_array_equal,
            statistics,
            nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)),
        )
        return

    def compare(ours: dict, before: dict) -> None:
        if "mean" in ours:
            mean, var = norm.running.pop(id(before))
            np.testing.assert_allclose(ours["mean"], mean, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(ours["var"], var, rtol=1e-3, atol=1e-4)
            return
        for name, part in ours.items():
            compare(part, before[name])

    compare(statistics, p)
    assert not norm.running


def timm_names(name: str, arrays: dict, depths: tuple[int, ...]) -> dict:
    """Our arrays under timm's names, in PyTorch's order of axes."""
    renames = [
        (r"^patch_embedding", "patch_embed.proj"),
        (r"^patch_norm", "patch_embed.norm"),
        (r"^class_token", "cls_token"),
        (r"^position_embedding", "pos_embed"),
        (r"position_bias", "relative_position_bias_table"),
        (r"^merging\.(\d+)\.norm", r"layers.\1.downsample.norm"),
        (r"^merging\.(\d+)\.linear", r"layers.\1.downsample.reduction"),
        (r"^levels\.(\d+)\.(\d+)", r"layers.\1.blocks.\2"),
        (r"attention_norm", "norm1"),
        (r"mlp_norm", "norm2"),
        (r"attention\.qkv", "attn.qkv"),
        (r"attention\.out", "attn.proj"),
        (r"attention\.rel", "attn.rel"),
        (r"mlp\.expand", "mlp.fc1"),
        (r"mlp\.contract", "mlp.fc2"),
    ]
    if name.startswith("deit"):
        renames.append((r"^layers", "blocks"))
    if name.startswith("swin"):
        renames.append((r"^head", "head.fc"))
    if name.startswith("resnet"):
        renames = [
            (r"^head", "fc"),
            (r"^stem_norm", "bn1"),
            (r"^stem", "conv1"),
            (r"reduce_norm", "bn1"),
            (r"conv_norm", "bn2"),
            (r"expand_norm", "bn3"),
            (r"\.conv\.", ".conv2."),
            (r"reduce", "conv1"),
            (r"expand", "conv3"),
            (r"shortcut_norm", "downsample.1"),
            (r"shortcut", "downsample.0"),
        ]
        places = [
            f"layer{level + 1}.{k}"
            for level, depth in enumerate(depths)
            for k in range(depth)
        ]
        renames += [(rf"^layers\.{i}\.", f"{p}.") for i, p in enumerate(places)]
    renames += [
        (r"(kernel|scale)$", "weight"),
        (r"mean$", "running_mean"),
        (r"var$", "running_var"),
    ]
    theirs = {}
    for ours, array in arrays.items():
        if ours.endswith("kernel"):
            axes = (3, 2, 0, 1) if array.ndim == 4 else (1, 0)
            array = array.transpose(axes)
        for pattern, new in renames:
            ours = re.sub(pattern, new, ours)
        theirs[ours] = array.copy()
    return theirs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "timm_name", "options"),
    [
        ("deit_tiny_patch16_224", None, {}),
        (
            "deit_tiny_patch4_32",
            "deit_tiny_patch16_224",
            dict(img_size=32, patch_size=4),
        ),
        ("swin_tiny_patch4_window7_224", None, {}),
        (
            "swin_tiny_patch2_window4_32",
            "swin_tiny_patch4_window7_224",
            dict(img_size=32, patch_size=2, window_size=4),
        ),
        ("resnet50", None, {}),
    ],
)
def test_timm_computes_the_same(name: str, timm_name: str | None, options: dict):
    timm = pytest.importorskip("timm")
    torch = pytest.importorskip("torch")
    model = nnx.eval_shape(lambda: create_model(name, rngs=nnx.Rngs(0)))
    model = filled(model, scale=0.05)
    arrays = flatten(nnx.to_pure_dict(nnx.state(model)))
    theirs = timm.create_model(timm_name or name, **options)
    renamed = timm_names(name, arrays, (3, 4, 6, 3))
    wanted = theirs.state_dict()
    # Counters, and positions that are computed.
    extra = [k for k in wanted if k not in renamed]
    assert all(k.endswith(("tracked", "position_index", "mask")) for k in extra), extra
    theirs.load_state_dict(
        wanted | {k: torch.from_numpy(x) for k, x in renamed.items()}, strict=True
    )
    x = images(model, 1)
    with torch.inference_mode():
        expected = theirs.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2))).numpy()
    ours = logits(model, x)
    scale = np.abs(expected).max()
    difference = np.abs(ours - expected).max() / scale
    print(f"{name}: largest difference {difference:.1e} of {scale:.2f}")
    assert scale > 0.1
    # float32 through 12 to 50 layers.
    assert difference < 1e-4
