"""FID and its kind: that torch-fidelity measures what we say, with random weights."""

import dataclasses
import os
import pickle
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from nest.errors import UserError
from nest.generation.fidelity import Fidelity, load_fidelity, measure_fidelity
from nest.generation.frechet import frechet_distance, gather_statistics
from nest.generation.kernel_distance import kernel_distance
from nest.generation.precision_recall import precision_recall
from nest.generation.quality import describe_quality, measure_quality
from nest.generation.real import RealImages

COUNT = 12  # images in a set; a third of a second each


@pytest.fixture(scope="module")
def torch() -> ModuleType:
    pytest.importorskip("torch_fidelity")
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def fidelity(torch, tmp_path_factory) -> Fidelity:
    """With the network's own layers, random."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Empty(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_, **__) -> None:
            """Keep the start values: there is no file yet."""

    file = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save({}, file)
    torch.manual_seed(0)
    network = Empty("random", ["2048"], feature_extractor_weights_path=str(file))
    for name, values in network.named_parameters():
        if values.ndim == 4:  # As large behind a layer as before it.
            torch.nn.init.kaiming_normal_(values)
        if name == "fc.weight":
            values *= 10  # For an Inception score that is not 1.
    torch.save(network.state_dict(), file)
    return load_fidelity(file, batch_size=5)


@pytest.fixture(scope="module")
def images() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (2, COUNT, 3, 3, 3)).astype(np.uint8)
    values[1] //= 2
    larger = values.repeat(3, axis=2).repeat(3, axis=3)
    return {"real": larger[0], "samples": larger[1]}


@pytest.fixture(scope="module")
def features(torch, fidelity, images) -> dict[str, np.ndarray]:
    """By the network alone, without the library around it."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = str(fidelity.weights)
    network = FeatureExtractorInceptionV3(
        "plain", ["2048", "logits_unbiased"], feature_extractor_weights_path=path
    )
    found = {}
    for name, array in images.items():
        pixels = torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))
        found[name], found[f"{name} logits"] = (x.numpy() for x in network(pixels))
    return found


def real(images: dict[str, np.ndarray]) -> RealImages:
    array = images["real"]
    return RealImages(
        "patterns", "train", COUNT, array.shape[1], lambda: np.split(array, [7])
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def measured(fidelity, images, cache) -> dict:
    return measure_fidelity(fidelity, images["samples"], real(images), cache)


def test_the_figures_are_those_of_our_own_formulas(measured, features):
    samples, truth = features["samples"], features["real"]
    statistics = [gather_statistics([x]) for x in (samples, truth)]
    # The library averages in float32, and takes roots of a product's eigenvalues.
    expected = pytest.approx(frechet_distance(*statistics), rel=1e-3)
    assert measured["fid"] == expected and measured["fid"] > 1
    # One subset of all images, a hundred times.
    assert measured["kid_subset_size"] == COUNT
    assert measured["kid"] == pytest.approx(kernel_distance(samples, truth), rel=1e-3)
    found = measured["inception_precision"], measured["inception_recall"]
    assert found == pytest.approx(precision_recall(samples, truth), abs=1e-6)


def test_the_inception_score(measured, features):
    logits = features["samples logits"].astype(np.float64)
    logits = logits[np.random.RandomState(2020).permutation(COUNT)]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = odds / odds.sum(axis=1, keepdims=True)
    scores = []
    for k in range(10):
        part = p[k * COUNT // 10 : (k + 1) * COUNT // 10]
        divergence = part * (np.log(part) - np.log(part.mean(axis=0)))
        scores.append(np.exp(divergence.sum(axis=1).mean()))
    assert np.mean(scores) > 1.001
    assert measured["inception_score"] == pytest.approx(np.mean(scores), rel=1e-4)


def test_a_set_is_at_no_distance_from_itself(
    fidelity, images, cache, features, measured
):
    found = measure_fidelity(
        fidelity, images["real"], real(images), cache, measures=("fid", "prc")
    )
    assert found.keys() == {"fid", "inception_precision", "inception_recall"}
    # The library's roots of the eigenvalues' rounding, which may fall below zero.
    assert abs(found["fid"]) < 1e-3 * np.trace(np.cov(features["real"].T))
    assert found["inception_precision"] == found["inception_recall"] == 1


def test_real_features_are_cached_and_mended(fidelity, images, tmp_path: Path):
    passes = []

    def batches() -> list[np.ndarray]:
        passes.append(1)
        return np.split(images["real"], [7])

    counted = dataclasses.replace(real(images), batches=batches)

    def measure() -> tuple[dict, int]:
        passes.clear()
        few = images["samples"][:11]
        found = measure_fidelity(fidelity, few, counted, tmp_path, measures=("fid",))
        return found, len(passes)

    first, read = measure()
    assert read == 2  # The key, and the images.
    assert measure() == (first, 1)
    (file,) = (tmp_path / "torch-fidelity").glob("*stat-fid*")
    content = bytearray(file.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = bytes(third)  # It still opens.
    file.write_bytes(content)
    again, _ = measure()
    assert again == pytest.approx(first, rel=1e-6)


def test_side_by_side(fidelity, images, cache, measured):
    sets = {"samples": [images["samples"]]}
    options = dict(judge=None, fidelity=fidelity, cache=cache, measures=("fid", "kid"))
    found = measure_quality(sets, real(images), **options)
    assert found["samples/fid"] == pytest.approx(measured["fid"], rel=1e-6)
    assert found["num_real"] == found["samples/num_samples"] == COUNT
    assert "torch-fidelity" in found["extractor"]
    _, line = describe_quality(found)
    assert f"FID {found['samples/fid']:.4g}; KID" in line and "Score" not in line


def test_what_cannot_be_measured(fidelity, images, cache):
    with pytest.raises(UserError, match="no measure 'lpips'; there are: fid, isc"):
        measure_fidelity(
            fidelity, images["samples"], real(images), cache, measures=("lpips",)
        )
    with pytest.raises(UserError, match="10 images and 12 real ones are too few"):
        measure_fidelity(fidelity, images["samples"][:10], real(images), cache)
    more = dataclasses.replace(real(images), count=COUNT + 1)
    with pytest.raises(UserError, match="1 of 13 real images of patterns/train could"):
        measure_fidelity(fidelity, images["samples"], more, cache, measures=("fid",))


class Code:
    """Runs when it is unpickled carelessly."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("ran",)


def test_wrong_weights(torch, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "code.pth").write_bytes(pickle.dumps(Code(), protocol=2))
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    for name in ("text", "code", "other"):
        with pytest.raises(UserError, match=rf"{name}.pth does not hold .*download h"):
            load_fidelity(tmp_path / f"{name}.pth")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(UserError, match=r"no file .*none.pth .*--inception_weights="):
        load_fidelity(tmp_path / "none.pth")


def test_no_weights_and_no_connection(torch, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # Nobody listens there.
    with pytest.raises(
        UserError, match=r"could not be downloaded \(URLError.*weights-inception-2015"
    ) as raised:
        load_fidelity(None)
    assert "\n" not in str(raised.value)


def test_downloaded_weights_are_found(torch, fidelity, tmp_path: Path, monkeypatch):
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / Path(URL_INCEPTION_V3).name).symlink_to(fidelity.weights)
    assert load_fidelity(None).fingerprint == fidelity.fingerprint


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-fidelity\.txt"):
        load_fidelity(None)
