"""nest.training.classifier_evaluation: weights; runs are in test_training.py."""

import json
from pathlib import Path

import pytest

from nest.data.reader import Reader
from nest.data.sources import Source
from nest.errors import UserError
from nest.training import classifier, classifier_evaluation, hosts
from nest.training.classifier_evaluation import check_count
from nest.training.inputs import report_skipped
from nest.weights import read_weights, write_weights


def last_json(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_weights_of_a_run_score_like_the_run(small_config, tmp_path: Path, capsys):
    classifier.train(small_config, tmp_path / "run")
    classifier_evaluation.evaluate_checkpoint(small_config, tmp_path / "run", "latest")
    expected = last_json(capsys)
    file = tmp_path / "weights.safetensors"
    write_weights(read_weights(tmp_path / "run"), file)
    # All but the data comes from the file.
    small_config.model.widths = (4, 4)
    small_config.data.mean = (0.0, 0.0, 0.0)
    classifier_evaluation.evaluate_weights(small_config, str(file))
    found = last_json(capsys)
    assert found["weights"] == str(file) and found["examples"] == 360
    for name in ("top1", "top5", "loss"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)
    with small_config.unlocked():
        small_config.data.source = "synthetic"
        small_config.data.dataset = "7x20x8"
    with pytest.raises(UserError, match="knows 10 classes, the dataset has 7"):
        classifier_evaluation.evaluate_weights(small_config, str(file))


def test_what_any_host_left_out_counts_once(monkeypatch, capsys):
    source = Source(
        read=lambda i: (b"", 0),
        num_examples=10,
        class_names=("a", "b"),
        describe=lambda i: f"example {i}",
    )
    reader = Reader(source, skip_corrupt=True)
    for i in (1, 2):
        reader.read(i, lambda picture: picture)
    theirs = [[2, "no bytes"], [5, "no bytes"]]
    monkeypatch.setattr(hosts, "gather", lambda ours: [ours, theirs])
    check_count({"examples": 7}, reader)
    with pytest.raises(RuntimeError, match="evaluated 8 examples of 7"):
        check_count({"examples": 8}, reader)
    report_skipped(reader)
    assert capsys.readouterr().err == (
        "3 of 10 images were unreadable and left out: example 1 (no bytes); example 2 "
        "(no bytes); example 5 (no bytes)\n"
    )
