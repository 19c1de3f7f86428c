"""nest.training.classifier_evaluation: weights; runs are in test_training.py."""

import json
from pathlib import Path

import pytest

from nest.errors import UserError
from nest.training import classifier, classifier_evaluation
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
