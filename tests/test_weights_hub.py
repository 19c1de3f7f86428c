"""nest.weights.hub: without network; a stand-in plays the hub where one is needed."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import random_weights, small_arguments

from nest.errors import UserError
from nest.weights import read_weights
from nest.weights.arrays import flatten
from nest.weights.files import write_safetensors
from nest.weights.timm import to_timm

NAME = "hf-hub:timm/nest_tiny_jx.goog_in1k"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A folder as timm's on the hub, and a hub that has it."""
    weights = random_weights(small_arguments("nest_tiny_s196_224", heads=(1, 1, 1)))
    arrays = to_timm(flatten(weights.params), weights.model)
    folder = tmp_path / "snapshot"
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", arrays, {})
    write_config(folder)

    def hf_hub_download(name: str, file: str, *, revision: str | None) -> str:
        if (name, revision) not in (
            ("timm/nest_tiny_jx.goog_in1k", None),
            ("a/b", "1"),
        ):
            raise OSError(f"no {name}. \nSee the manual.")
        return str(folder / file)

    stand_in = SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in)
    return folder


def write_config(folder: Path, **fields) -> None:
    about = {"tag": "goog_in1k", "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 0.9}
    config = {"architecture": "nest_tiny_jx", "pretrained_cfg": about | fields}
    config |= {name: fields[name] for name in config.keys() & fields.keys()}
    (folder / "config.json").write_text(json.dumps(config))


def test_the_released_weights_come_with_the_tanh_form_and_their_input(folder: Path):
    for source in (NAME, str(folder), "hf-hub:a/b@1"):
        weights = read_weights(source, heads=(1, 1, 1))
        assert weights.source == source
        assert weights.model["gelu"] == "tanh"
        assert (weights.mean, weights.std) == ((0.5,) * 3, (0.25,) * 3)
        assert weights.eval_crop == 0.9
        assert weights.assumed == ()
    assert read_weights(NAME, heads=(1, 1, 1), gelu="exact").model["gelu"] == "exact"


def test_weights_that_timm_trained_come_with_the_exact_form(folder: Path):
    write_config(folder, tag="my_fine_tuning", label_names=list("abcdefg"))
    weights = read_weights("hf-hub:a/b@1", heads=(1, 1, 1))
    assert weights.model["gelu"] == "exact" and weights.assumed == ("gelu",)
    assert weights.class_names == tuple("abcdefg")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": "nest_tiny"}, "its pooling pads on both sides"),
        ({"architecture": "vit_tiny_patch16_224"}, "not a NesT"),
        ({"mean": "grey"}, "config.json is damaged: mean is no list of numbers"),
        ({"crop_pct": 7}, r"crop_pct is not in \(0, 1\]"),
        ({"std": [0.1, 0.0, 0.1]}, "is not positive"),
        ({"label_names": ["a"]}, "names 1 classes and has 7"),
    ],
)
def test_a_config_that_makes_no_sense_is_one_line(folder, fields, message):
    write_config(folder, **fields)
    with pytest.raises(UserError, match=message):
        read_weights(NAME, heads=(1, 1, 1))


def test_a_name_that_the_hub_lacks_is_one_line(folder: Path):
    with pytest.raises(UserError, match=r"c/d could not .*no c/d.*HF_HUB_OF") as caught:
        read_weights("hf-hub:c/d")
    assert "\n" not in str(caught.value)


def test_without_huggingface_hub_a_name_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="goog_in1k, install huggingface_hub"):
        read_weights(NAME)


def test_offline_a_name_is_one_line(monkeypatch, tmp_path: Path):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="HF_HUB_OFFLINE") as caught:
        read_weights(NAME)
    assert "\n" not in str(caught.value)
