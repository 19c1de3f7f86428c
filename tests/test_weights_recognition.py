"""nest.weights.recognition."""

import jax
import pytest
from conftest import small_arguments

from nest import VARIANTS
from nest.weights.arrays import abstract_model, parameters
from nest.weights.recognition import (
    full_arguments,
    published_input,
    recognize,
    short_arguments,
)

OTHER_SIZES = {"nest_tiny_s16_32": 64, "nest_tiny_s196_224": 384}


def shapes(**arguments) -> dict[str, jax.ShapeDtypeStruct]:
    return parameters(abstract_model(arguments))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_published_variant_has_its_name(name: str):
    size = VARIANTS[name]["image_size"]
    told = recognize(shapes(name=name, num_classes=1000))
    assert told == dict(name=name, image_size=size, num_classes=1000, gelu="tanh")


@pytest.mark.parametrize("name", OTHER_SIZES)
def test_at_another_size_with_other_classes_too(name: str):
    size = OTHER_SIZES[name]
    told = recognize(shapes(name=name, num_classes=3, image_size=size))
    assert told == dict(name=name, image_size=size, num_classes=3, gelu="tanh")


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"image_size": 32, "block_size": 4},  # two blocks a side at the top
        {"patch_size": 2, "in_channels": 1},
        {"widths": (12, 12, 12), "layers": (3, 1, 1)},
        {"aggregation": "max_pool"},
        {"aggregation": "patch_merging"},
        {"attention": "multi_query", "heads": (3, 2, 12)},
    ],
)
def test_what_differs_from_the_nearest_is_told(overrides: dict):
    arguments = small_arguments(
        "nest_tiny_s196_224", **{"image_size": 48, "patch_size": 1} | overrides
    )
    told = recognize(shapes(**arguments), heads=full_arguments(arguments)["heads"])
    full = parameters(abstract_model(told))
    assert full == shapes(**arguments)
    assert short_arguments(told | {"name": arguments["name"]}) == arguments


def test_heads_that_do_not_show_are_as_wide_as_the_variants():
    wide = dict(widths=(64, 128, 256), heads=(2, 4, 8))
    arguments = small_arguments("nest_tiny_s196_224", **wide)
    assert recognize(shapes(**arguments))["heads"] == (2, 4, 8)
    narrow = shapes(**small_arguments("nest_tiny_s196_224"))
    with pytest.raises(
        ValueError, match=r"no multiples .* 32 channels a head; give he"
    ):
        recognize(narrow)


def test_the_published_input():
    assert published_input("nest_base_s196_224", 1000)["eval_crop"] == 224 / 256
    assert published_input("nest_base_s196_224", 7)["mean"][0] == 0.485
    assert published_input("nest_base_s16_32", 10)["mean"][0] == 0.4914
    assert published_input("nest_base_s16_32", 100)["mean"][0] == 0.5071


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("patch_embedding.kernel", "missing patch_embedding.kernel"),
        ("levels.1.position_embedding", "missing levels.1.position_embedding"),
        ("levels.1.", "missing number 1 of the levels"),
        ("levels.2.layers.0.", "missing number 0 of the layers of level 2"),
    ],
)
def test_what_it_takes_to_tell_is_named_when_missing(gone: str, message: str):
    arrays = shapes(**small_arguments("nest_tiny_s196_224"))
    rest = {name: x for name, x in arrays.items() if not name.startswith(gone)}
    with pytest.raises(ValueError, match=message):
        recognize(rest, heads=(3, 6, 12))


def test_another_model_is_no_nest():
    shape = jax.ShapeDtypeStruct((3, 3), "float32")
    names = ["patch_embedding.kernel", "cls_token", *[f"blocks.{i}" for i in range(9)]]
    with pytest.raises(
        ValueError, match=r"not a NesT: it has cls_token, blocks\.0.* and 6 more"
    ):
        recognize(dict.fromkeys(names, shape))


def test_a_huge_number_in_a_name_costs_nothing():
    arrays = shapes(**small_arguments("nest_tiny_s196_224"))
    arrays["levels.0.layers.999999999.norm.bias"] = arrays["head.bias"]
    with pytest.raises(ValueError, match="missing number 1 of the layers of level 0"):
        recognize(arrays, heads=(3, 6, 12))
