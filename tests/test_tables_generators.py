"""nest.tables.generators: ratios by hand, and what is written and refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import ROOT

from nest.tables import generators, reproduction
from nest.tables.generators import markdown

FIGURES = dict(parameters=2_500_000, multiply_adds=1_250_000_000, peak_bytes=3_000_000)


def figures() -> dict[str, Any]:
    rows = [
        dict(name="nest_generator_64", form=None, images_per_second=12.0, **FIGURES),
        dict(name="transgan_64", form="whole", images_per_second=2.0, **FIGURES),
        dict(name="transgan_64", form="slices", images_per_second=4.0, **FIGURES),
        dict(name="nest_generator_16", form=None, images_per_second=1.0, **FIGURES),
    ]
    return dict(
        what="generation",
        batch_size=1,
        dtype="float32",
        rounds=1,
        device="abacus",
        jax="0",
        rows=rows,
    )


def test_ratios_are_to_each_form_of_transgan():
    report = figures()
    nest, whole, slices, other = markdown(report, command="run it").split("\n")[4:8]
    start = "| nest_generator_64 | 2.5M | 74.4M | 1.25G | 12 "
    assert nest == start + "| 6.00x | 3.00x | 523.7 | 7.7x | 3 | `run it` |"
    assert "whole attention" in whole and "| 1.00x | 0.50x | 67.7 | 1.0x |" in whole
    assert "| 2.00x | 1.00x | 67.7 | 1.0x |" in slices
    assert other.endswith("| 0.50x | 0.25x |  |  | 3 | `run it` |")


def test_the_plot_shows_the_ratios(monkeypatch):
    drawn = []
    monkeypatch.setattr(generators.plot, "draw", lambda *told: drawn.append(told))
    report = figures()
    generators.picture(report)
    report["rows"].pop(1)
    generators.picture(report)
    (_, axis, bars), (_, other_axis, others) = drawn
    assert "TransGAN" in axis and other_axis == "images/s"
    assert [bar.values for bar in bars] == [[6.0], [1.0], [2.0], [0.5]]
    ratios = [bar.paper and round(bar.paper, 1) for bar in bars]
    assert ratios == [7.7, 1.0, 1.0, None]
    assert [(bar.values, bar.paper) for bar in others] == [
        ([12.0], None),
        ([4.0], None),
        ([1.0], None),
    ]


def test_figures_become_a_table_and_a_plot(tmp_path: Path):
    (tmp_path / "generators").mkdir()
    file = tmp_path / "generators" / "figures.json"
    file.write_text(json.dumps(figures()))
    told = reproduction.generators(tmp_path, run=[], scale="")
    names = "nest_generator_64,transgan_64,nest_generator_16"
    assert f"| `python scripts/reproduce.py generators --rows={names}` |" in told
    assert told.startswith((tmp_path / "generators.md").read_text())
    assert (tmp_path / "generators.png").exists()


def test_flags_without_a_use_are_refused(tmp_path: Path):
    script = str(ROOT / "scripts/reproduce.py")
    command = [sys.executable, script, "generators", "--seeds=0"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 1
    told = "reproduce.py: the table generators has no --seeds: it trains nothing; "
    assert process.stderr.startswith(told) and process.stderr.count("\n") == 1
