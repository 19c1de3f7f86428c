"""Sets of images side by side: the figures, their names and their counts."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import random_weights, small_arguments

from nest.data.sources import digits
from nest.errors import UserError
from nest.generation import judge as judging
from nest.generation.frechet import frechet_distance, gather_statistics
from nest.generation.judge import Judge, extract_features, load_judge
from nest.generation.kernel_distance import kernel_distance
from nest.generation.quality import describe_quality, measure_quality
from nest.generation.real import RealImages, collect, real_images
from nest.weights import write_weights


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> Judge:
    """A classifier of digits with random weights, sure of what it says."""
    small = dict(image_size=8, layers=(1, 1), widths=(12, 12), heads=(3, 3))
    weights = random_weights(small_arguments("nest_tiny_s16_32", **small), scale=0.4)
    weights.params["head"]["kernel"] *= 8
    file = tmp_path_factory.mktemp("weights") / "judge.safetensors"
    write_weights(weights, file)
    return load_judge(file, batch_size=64)


def open_digits(split: str, **fields) -> RealImages:
    fields = dict(image_size=8, eval_crop=1.0, in_memory=True) | fields
    source = digits.open_digits(split)
    return real_images(source, dataset="digits", split=split, **fields)


@pytest.fixture(scope="module")
def train() -> RealImages:
    return open_digits("train", count=300)


@pytest.fixture(scope="module")
def measured(judge, train, tmp_path_factory) -> dict:
    noise = np.random.default_rng(0).integers(0, 256, (120, 8, 8, 3)).astype(np.uint8)
    sets = {
        "itself": train.batches(),
        "held_out": open_digits("test", count=200).batches(),
        "noise": np.split(noise, [50]),
    }
    cache = tmp_path_factory.mktemp("cache")
    return measure_quality(sets, train, judge=judge, fidelity=None, cache=cache)


def test_the_result_is_flat_and_says_what_was_measured(measured, judge):
    assert json.loads(json.dumps(measured)) == measured
    assert not any(isinstance(value, dict) for value in measured.values())
    expected = dict(dataset="digits", split="train", image_size=8, num_real=300)
    expected |= {"judge": judge.source, "judge_features": 12, "equal_count": 120}
    assert expected.items() <= measured.items()
    counts = [measured[f"{name}/num_samples"] for name in ("itself", "held_out")]
    assert counts == [300, 200]


def test_a_set_is_at_no_distance_from_itself(measured):
    assert measured["itself/nest_frechet_distance"] < 1e-9
    assert measured["itself/nest_kernel_distance"] <= 0
    assert measured["itself/nest_near_copies"] == 1
    assert measured["itself/nest_recognised"] == measured["real/nest_recognised"]


def test_distances_order_the_sets(measured):
    for figure in ("frechet_distance", "kernel_distance"):
        held_out, noise = (
            measured[f"{k}/nest_{figure}"] for k in ("held_out", "noise")
        )
        assert 10 * held_out < noise
    assert measured["noise/nest_precision"] < measured["held_out/nest_precision"]


def test_distances_are_of_the_stated_sets(judge, train, measured):
    def features(images: RealImages) -> np.ndarray:
        return np.concatenate([x for x, _ in extract_features(judge, images.batches())])

    ours, theirs = features(open_digits("test", count=200)), features(train)
    expected = frechet_distance(gather_statistics([ours]), gather_statistics([theirs]))
    found = measured["held_out/nest_frechet_distance"]
    assert found == pytest.approx(expected, rel=1e-9)
    found = measured["held_out/nest_kernel_distance"]
    assert found == pytest.approx(kernel_distance(ours, theirs), rel=1e-6)


def test_draws_from_the_real_images(judge, train, measured):
    both = extract_features(judge, train.batches())
    theirs = np.concatenate([features for features, _ in both])
    rng = np.random.default_rng(5)
    whole = gather_statistics([theirs])
    for name, count in {"held_out": 200, "noise": 120}.items():
        expected = [
            frechet_distance(
                gather_statistics([theirs[rng.integers(0, 300, count)]]), whole
            )
            for _ in range(100)
        ]
        found = measured[f"{name}/nest_frechet_distance_of_draws"]
        # Four standard errors of the ten draws behind it.
        tolerance = 4 * np.std(expected) / np.sqrt(10)
        assert found == pytest.approx(np.mean(expected), abs=tolerance)
        assert tolerance < 0.7 * np.mean(expected)


def test_fewer_images_are_further_away(measured):
    """Of 120 and of 300 draws, where the mean of ten settles which is larger."""
    at = "nest_frechet_distance_at_equal_count"
    assert measured[f"itself/{at}"] > measured["itself/nest_frechet_distance"]
    assert measured[f"noise/{at}"] == measured["noise/nest_frechet_distance"]
    few = measured["noise/nest_frechet_distance_of_draws"]
    many = measured["itself/nest_frechet_distance_of_draws"]
    assert few > 1.5 * many > 0  # The bias goes with 1 / count.


def test_lines_name_judge_counts_and_that_it_is_no_fid(measured, judge):
    lines = describe_quality(measured)
    assert sum("not FID" in line for line in lines) == 3
    (about,) = (line for line in lines if line.startswith("held_out"))
    assert "200 images against 300 real images of digits/train, 8 pixels" in about
    assert all(judge.source in line for line in lines if "Frechet" in line)
    assert not any("few for a covariance" in line for line in lines)
    few = describe_quality(measured | {"noise/num_samples": 20})
    assert any("20 images are few for a covariance of 12" in line for line in few)


def test_more_images_than_are_kept(judge, train, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(judging, "KEPT", 100)
    monkeypatch.setattr("nest.generation.quality.KEPT", 100)
    sets = {"all": open_digits("test").batches()}
    found = measure_quality(sets, train, judge=judge, fidelity=None, cache=tmp_path)
    assert found["all/num_samples"] == 360 and found["equal_count"] == 100
    distance = found["all/nest_frechet_distance"]
    assert found["all/nest_frechet_distance_at_equal_count"] > distance


def test_images_that_cannot_be_measured(judge, train, tmp_path: Path):
    def measure(images: list[np.ndarray]) -> None:
        options = dict(judge=judge, fidelity=None, cache=tmp_path)
        measure_quality({"samples": images}, train, **options)

    with pytest.raises(UserError, match="no images in samples"):
        measure([])
    with pytest.raises(ValueError, match=r"samples: images are uint8 \(3, 9, 9, 3\)"):
        measure([np.zeros((3, 9, 9, 3), np.uint8)])
    with pytest.raises(ValueError, match="samples: images are float32"):
        measure([np.zeros((3, 8, 8, 3), np.float32)])
    with pytest.raises(UserError, match=r"\(300 real, samples 2\).*take more"):
        measure([np.zeros((2, 8, 8, 3), np.uint8)])


def test_a_choice_of_real_images_is_fixed_and_spread():
    source = digits.open_digits("train")
    whole = collect(open_digits("train").batches(), 8, "train")
    few = open_digits("train", count=50)
    images = collect(few.batches(), 8, "few")
    places = [np.flatnonzero((whole == x).all(axis=(1, 2, 3)))[0] for x in images]
    assert len(set(places)) == 50 and sorted(places) == places
    assert places[0] < 300 and places[-1] > source.num_examples - 300
    np.testing.assert_array_equal(images, collect(few.batches(), 8, "again"))
    assert few.key() != open_digits("train", count=51).key()
    with pytest.raises(UserError, match="has 1437 images, not 1438"):
        open_digits("train", count=1438)


def test_unreadable_real_images_are_left_out():
    whole = digits.open_digits("test")

    def read(i: int) -> tuple[bytes | np.ndarray, int]:
        return (b"broken", 0) if i == 3 else whole.read(i)

    source = dataclasses.replace(whole, read=read)
    names = dict(dataset="digits", split="test", image_size=8, eval_crop=1.0)
    left = real_images(source, **names, skip_corrupt=True)
    assert len(collect(left.batches(), 8, "left")) == 359
    with pytest.raises(UserError, match="digit 3 of test"):
        collect(real_images(source, **names).batches(), 8, "broken")
