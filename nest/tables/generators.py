"""The table of generator throughput, from scripts/benchmark_generators.py's figures."""

from collections.abc import Mapping
from typing import Any

from PIL import Image

from nest.tables import plot

# Parameters in millions and images/s; second-hand, on hardware that is not known.
PUBLISHED = {
    "nest_generator_64": (74.4, 523.7),
    "transgan_64": (82.6, 67.7),
    "sagan_64": (77.8, 709.0),
}
REFERENCE = "transgan_64"  # what the ratios are to


def markdown(report: Mapping[str, Any], *, command: str) -> str:
    """Render the figures of one run as Markdown.

    Args:
      command: what a reader types; one for all rows, which take turns.
      report: "what", "batch_size", "dtype", "device", "jax", "rounds" and "rows", each
        with "name", "form", "parameters", "multiply_adds", "images_per_second",
        "peak_bytes".
    """
    transgan = [row for row in report["rows"] if row["name"] == REFERENCE]
    fastest = max((row["images_per_second"] for row in transgan), default=None)
    whole = _whole(report)
    lines = [
        f"{report['what']}, batch {report['batch_size']}, {report['dtype']}, "
        f"{report['device']}, jax {report['jax']}; best of {report['rounds']}",
        "",
        "| generator | parameters | paper's | multiply-adds | images/s | to TransGAN, "
        "whole | to TransGAN, fastest | paper's images/s | paper's ratio | peak memory "
        "MB | command |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in report["rows"]:
        name = row["name"]
        size, _ = PUBLISHED.get(name, (None, None))
        speed, published = _published(report, name)
        cells = (
            _title(row),
            f"{row['parameters'] / 1e6:.1f}M",
            f"{size:.1f}M" if size else "",
            f"{row['multiply_adds'] / 1e9:.2f}G",
            f"{row['images_per_second']:.3g}",
            *(
                f"{row['images_per_second'] / other:.2f}x" if other else ""
                for other in (whole, fastest)
            ),
            f"{speed:.1f}" if speed else "",
            f"{published:.1f}x" if published else "",
            f"{row['peak_bytes'] / 1e6:,.0f}",
            f"`{command}`",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "The paper's numbers are second-hand; how its TransGAN computed attention is "
        "not recorded. Whole attention has all weights of a level in memory at once.",
    ]
    return "\n".join(lines)


def picture(report: Mapping[str, Any]) -> Image.Image:
    """Draw how much faster each generator is than TransGAN with whole attention.

    Without that one, images/s are drawn, and nothing of the paper's: its hardware is
    not known.
    """
    whole = _whole(report)
    bars = [
        plot.Bar(
            _title(row),
            [row["images_per_second"] / (whole or 1.0)],
            _published(report, row["name"])[1] if whole else None,
        )
        for row in report["rows"]
    ]
    axis = "times TransGAN's images/s, whole attention" if whole else "images/s"
    title = f"{report['what']}, batch {report['batch_size']}, {report['device']}"
    return plot.draw(title, axis, bars)


def _whole(report: Mapping[str, Any]) -> float | None:
    for row in report["rows"]:
        if (row["name"], row["form"]) == (REFERENCE, "whole"):
            return row["images_per_second"]
    return None


def _published(
    report: Mapping[str, Any], name: str
) -> tuple[float, float] | tuple[None, None]:
    """The paper's images/s, and their ratio to TransGAN's."""
    _, speed = PUBLISHED.get(name, (None, None))
    if speed is None or report["what"] != "generation":
        return None, None
    return speed, speed / PUBLISHED[REFERENCE][1]


def _title(row: Mapping[str, Any]) -> str:
    return f"{row['name']}, {row['form']} attention" if row["form"] else row["name"]
