"""A classifier as judge: what it says, what is kept of it, and what can go wrong."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import jitted, random_weights, small_arguments

from nest.errors import UserError
from nest.generation import judge as judging
from nest.generation.judge import (
    Judge,
    extract_features,
    fingerprint,
    judge_images,
    judge_real_images,
    load_judge,
)
from nest.generation.real import RealImages
from nest.weights import Weights, write_weights

SIZE = 8
SMALL = dict(image_size=SIZE, layers=(1, 1), widths=(12, 12), heads=(3, 3))


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Of a classifier that is sure of some images and not of others."""
    made = random_weights(small_arguments("nest_tiny_s16_32", **SMALL), scale=0.4)
    for level in made.params["levels"].values():
        level["position_embedding"] *= 0  # It would drown the images.
    made.params["norm"]["bias"] *= 0
    made.params["head"]["bias"] *= 0
    made.params["head"]["kernel"] *= 8
    return made


@pytest.fixture(scope="module")
def file(weights: Weights, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "judge.safetensors"
    write_weights(weights, path)
    return path


@pytest.fixture(scope="module")
def judge(file: Path) -> Judge:
    return load_judge(file, batch_size=7)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Patterns that differ in more than noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (40, 4, 4, 3)).astype(np.uint8)
    return coarse.repeat(2, axis=1).repeat(2, axis=2)


def real(images: np.ndarray, **fields) -> RealImages:
    fields = dict(dataset="patterns", split="train", count=len(images)) | fields
    return RealImages(
        image_size=images.shape[1], batches=lambda: np.split(images, [9, 20]), **fields
    )


def extracted(judge: Judge, batches: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    both = zip(*extract_features(judge, batches), strict=True)
    return tuple(map(np.concatenate, both))


def test_features_are_what_the_head_sees(judge, weights, images):
    assert judge.batch_size == 8  # a multiple of the two devices
    features, probabilities = map(
        np.concatenate,
        zip(*extract_features(judge, np.split(images, [3])), strict=True),
    )
    assert features.shape == (40, 12) and probabilities.shape == (40, 7)
    model = weights.build()
    pixels = (images / 255 - np.array(weights.mean)) / np.array(weights.std)
    maps = jitted(lambda model, x: model.features(x), model, pixels.astype("f4"))
    top = np.asarray(maps[-1], np.float64)
    top = (top - top.mean(-1, keepdims=True)) / np.sqrt(
        top.var(-1, keepdims=True) + 1e-6
    )
    top = top * np.asarray(model.norm.scale[...]) + np.asarray(model.norm.bias[...])
    expected = top.mean(axis=(1, 2))
    # Float32 through some twenty layers.
    np.testing.assert_allclose(features, expected, atol=1e-4)
    logits = expected @ np.asarray(model.head.kernel[...]) + np.asarray(
        model.head.bias[...]
    )
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        probabilities, odds / odds.sum(axis=1, keepdims=True), atol=1e-4
    )


def test_a_judgement_by_plain_numpy(judge, images):
    features, probabilities = extracted(judge, [images])
    found = judge_images(judge, np.split(images, [1, 30]), len(images))
    assert found.count == 40
    # Sums in another order.
    np.testing.assert_allclose(found.statistics.mean, features.mean(0), rtol=1e-6)
    np.testing.assert_allclose(
        found.statistics.covariance, np.cov(features.T), rtol=1e-5, atol=1e-6
    )
    expected = np.zeros(7, int)
    for row in probabilities:
        if row.max() > 0.9:
            expected[row.argmax()] += 1
    assert np.count_nonzero(expected) > 1 and expected.sum() < 40
    np.testing.assert_array_equal(found.recognised, expected)
    np.testing.assert_allclose(found.shares(), expected / expected.sum())
    order = np.lexsort(found.features.T), np.lexsort(features.T)
    np.testing.assert_array_equal(found.features[order[0]], features[order[1]])


def test_a_few_features_are_kept_whatever_the_batches(judge, images, monkeypatch):
    whole = judge_images(judge, [images], len(images))
    monkeypatch.setattr(judging, "KEPT", 6)
    found = judge_images(judge, [images], len(images))
    again = judge_images(judge, np.split(images, [2, 5, 33]), len(images))
    assert found.features.shape == (6, 12) and found.count == 40
    np.testing.assert_array_equal(found.features, whole.features[:6])
    np.testing.assert_array_equal(found.features, again.features)
    first, _ = extracted(judge, [images[:6]])
    assert not np.isin(found.features[:, 0], first[:, 0]).all()


def test_images_of_other_sizes_are_resized(judge, images):
    larger = images.repeat(2, axis=1).repeat(2, axis=2)
    (expected, _), *_ = extract_features(judge, [images[:5]])
    (found, _), *_ = extract_features(judge, [larger[:5]])
    np.testing.assert_array_equal(found, expected)  # 2x2 equal pixels, averaged
    small = images[:5, :4, :4]
    enlarged = np.stack(
        [cv2.resize(x, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR) for x in small]
    )
    (expected, _), *_ = extract_features(judge, [enlarged])
    (found, _), *_ = extract_features(judge, [small])
    np.testing.assert_array_equal(found, expected)


def same(left, right) -> bool:
    return (
        np.array_equal(left.statistics.mean, right.statistics.mean)
        and np.array_equal(left.statistics.covariance, right.statistics.covariance)
        and np.array_equal(left.features, right.features)
        and np.array_equal(left.recognised, right.recognised)
        and left.count == right.count
    )


def test_real_images_are_judged_once(judge, images, tmp_path: Path, capsys):
    first = judge_real_images(judge, real(images), tmp_path)
    assert same(first, judge_images(judge, np.split(images, [9, 20]), 40))

    def fail(_: np.ndarray) -> None:
        raise AssertionError("judged again")

    idle = dataclasses.replace(judge, extract=fail)
    assert same(first, judge_real_images(idle, real(images), tmp_path))
    changed = images.copy()
    changed[0, 0, 0, 0] ^= 1
    other_weights = dataclasses.replace(idle, fingerprint="other")
    for asked, about in [
        (other_weights, real(images)),
        (idle, real(changed)),
        (idle, real(images, split="test")),
        (idle, real(images, dataset="others")),
        (idle, real(images, count=50)),
    ]:
        with pytest.raises(AssertionError, match="judged again"):
            judge_real_images(asked, about, tmp_path)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another"])
def test_a_damaged_cache_is_computed_anew(
    judge, images, damage, tmp_path: Path, capsys
):
    first = judge_real_images(judge, real(images), tmp_path)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[content.index(first.features.tobytes()) + 100] ^= 1
    elif damage == "empty":
        content = b""
    else:  # A file of the same name for another key is none for this one.
        judge_real_images(judge, real(images[::-1]), tmp_path)
        (other,) = set(tmp_path.iterdir()) - {file}
        content = other.read_bytes()
        other.unlink()
    file.write_bytes(content)
    assert same(first, judge_real_images(judge, real(images), tmp_path))
    told = capsys.readouterr().err
    assert ("damaged" in told) == (damage != "another")
    assert list(tmp_path.iterdir()) == [file]
    judge_real_images(judge, real(images), tmp_path)
    assert capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_written(judge, images, tmp_path: Path, capsys):
    (tmp_path / "file").write_text("")
    found = judge_real_images(judge, real(images), tmp_path / "file")
    assert found.count == 40
    assert "cannot be written" in capsys.readouterr().err


def test_the_fingerprint_is_of_all_that_matters(weights, judge):
    assert fingerprint(weights) == judge.fingerprint
    changed = [
        random_weights(weights.model, scale=0.4, seed=1),
        dataclasses.replace(weights, model=weights.model | {"gelu": "exact"}),
        dataclasses.replace(weights, mean=(0.4, 0.4, 0.4)),
    ]
    assert len({judge.fingerprint, *map(fingerprint, changed)}) == 4


def read_nothing() -> Iterator[np.ndarray]:
    yield np.zeros((0, SIZE, SIZE, 3), np.uint8)


def test_too_few_images_and_too_many(judge, images, tmp_path: Path):
    with pytest.raises(UserError, match="1 features"):
        judge_images(judge, [images[:1]], 1)
    with pytest.raises(ValueError, match="40 images came where 39 were announced"):
        judge_images(judge, [images], 39)
    nothing = RealImages("patterns", "train", 0, SIZE, read_nothing)
    with pytest.raises(UserError, match="no images in patterns/train"):
        judge_real_images(judge, nothing, tmp_path)


def test_what_cannot_judge(tmp_path: Path):
    with pytest.raises(UserError, match="no file or folder"):
        load_judge(tmp_path / "none")
    run = tmp_path / "run"
    (run / "checkpoints" / "3").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"task": "gan"}))
    for source in (run, f"{run}:best"):
        with pytest.raises(UserError, match=r"run of the task 'gan'.*classifier"):
            load_judge(source)
    arguments = small_arguments("nest_tiny_s16_32", **SMALL, in_channels=1)
    grey = random_weights(arguments, mean=(0.5,), std=(0.5,))
    write_weights(grey, tmp_path / "grey.safetensors")
    with pytest.raises(UserError, match="1 channels"):
        load_judge(tmp_path / "grey.safetensors")
