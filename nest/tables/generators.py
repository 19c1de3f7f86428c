"""The table of generator throughput, from scripts/benchmark_generators.py's figures."""

from typing import Any

# Parameters in millions and images/s; second-hand, on hardware that is not known.
PUBLISHED = {
    "nest_generator_64": (74.4, 523.7),
    "transgan_64": (82.6, 67.7),
    "sagan_64": (77.8, 709.0),
}
REFERENCE = "transgan_64"  # what the ratios are to


def markdown(report: dict[str, Any]) -> str:
    """Render the figures of one run as Markdown.

    Args:
      report: "what", "batch_size", "dtype", "device", "jax", "rounds" and "rows", each
        with "name", "form", "parameters", "multiply_adds", "images_per_second",
        "peak_bytes".
    """
    transgan = [row for row in report["rows"] if row["name"] == REFERENCE]
    fastest = max((row["images_per_second"] for row in transgan), default=None)
    whole = next(
        (row["images_per_second"] for row in transgan if row["form"] == "whole"), None
    )
    lines = [
        f"{report['what']}, batch {report['batch_size']}, {report['dtype']}, "
        f"{report['device']}, jax {report['jax']}; best of {report['rounds']}",
        "",
        "| generator | parameters | paper's | multiply-adds | images/s | to TransGAN, "
        "whole | to TransGAN, fastest | paper's images/s | paper's ratio | peak memory "
        "MB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in report["rows"]:
        name = row["name"]
        title = f"{name}, {row['form']} attention" if row["form"] else name
        size, speed = PUBLISHED.get(name, (None, None))
        speed = speed if report["what"] == "generation" else None
        published = speed / PUBLISHED[REFERENCE][1] if speed else None
        cells = (
            title,
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
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "The paper's numbers are second-hand; how its TransGAN computed attention is "
        "not recorded. Whole attention has all weights of a level in memory at once.",
    ]
    return "\n".join(lines)
