"""Explanations as one self-contained HTML page, to be walked through by class.

Without JavaScript everything is there at once, values as the browser's own hints. With
it, a class is chosen by click or arrow key, and its path walks down the tree.
"""

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nest.explain.pictures import PANEL, colour, heated, link, scaled

GAP = 36  # pixels between the levels
TEMPLATE = Path(__file__).with_name("page.html")


def build_page(images: list[tuple[str, np.ndarray, dict[str, Any]]]) -> str:
    """Return the page.

    Args:
      images: name, pixels uint8 (S, S, 3), and what `explain_images` says, of each.
    """
    articles = "\n".join(
        _article(i, name, pixels, explained)
        for i, (name, pixels, explained) in enumerate(images)
    )
    return TEMPLATE.read_text().replace("<!-- ARTICLES -->", articles)


def _article(i: int, name: str, pixels: np.ndarray, explained: dict[str, Any]) -> str:
    classes = explained["classes"]
    tabs = "".join(
        f'<button role="tab" id="tab-{i}-{k}" aria-controls="panel-{i}-{k}" '
        f'aria-selected="{str(k == 0).lower()}" tabindex="{0 if k == 0 else -1}">'
        f"{html.escape(each['name'])} {each['probability']:.1%}</button>"
        for k, each in enumerate(classes)
    )
    panels = "\n".join(
        _panel(i, k, pixels, each, explained["image_size"])
        for k, each in enumerate(classes)
    )
    return (
        f'<article aria-labelledby="name-{i}"><h2 id="name-{i}">{html.escape(name)}'
        f'</h2>\n<svg class="store" width="0" height="0" aria-hidden="true"><defs>'
        f'<image id="image-{i}" href="{data_uri(Image.fromarray(pixels))}" '
        f'width="{PANEL}" height="{PANEL}" preserveAspectRatio="none"/></defs></svg>\n'
        f'<div role="tablist" aria-labelledby="name-{i}">{tabs}</div>\n{panels}\n'
        f"</article>"
    )


def _panel(
    i: int, k: int, pixels: np.ndarray, each: dict[str, Any], image_size: int
) -> str:
    label = f"{html.escape(each['name'])} {each['probability']:.1%}"
    maps = "".join(
        f'<figure><img src="{data_uri(heated(pixels, np.array(values)))}" '
        f'width="{PANEL}" height="{PANEL}" alt="heat map of {method}">'
        f"<figcaption>{method.replace('_', ' ')}</figcaption></figure>"
        for method, values in each["heat_maps"].items()
    )
    steps = " &rarr; ".join(
        f"level {block['level']} ({block['row']}, {block['column']}): "
        f"{block['value']:+.3g}"
        for block in each["path"]
    )
    return (
        f'<section role="tabpanel" id="panel-{i}-{k}" aria-labelledby="tab-{i}-{k}">'
        f"<h3>{label}</h3>\n{_tree(i, each, image_size)}\n"
        f'<p class="path">Path, as level (row, column): value. {steps}</p>'
        f'<p class="status" aria-live="polite"></p>\n'
        f'<div class="maps">{maps}</div></section>'
    )


def _tree(i: int, each: dict[str, Any], image_size: int) -> str:
    scale = PANEL / image_size
    parts, links = [], []
    for step, (level, chosen) in enumerate(
        zip(each["levels"], each["path"], strict=True)
    ):
        x = step * (PANEL + GAP)
        parts.append(
            f'<text x="{x}" y="14">level {level["level"]}</text>'
            f'<use href="#image-{i}" x="{x}" y="20"/>'
        )
        on_path = (chosen["row"], chosen["column"])
        cells = list(np.ndenumerate(np.array(level["values"])))
        cells.sort(key=lambda cell: cell[0] == on_path)  # the chosen is drawn last
        tints = scaled(np.array(level["values"]))
        for at, value in cells:
            parts.append(
                _block(x, at, value, tints, level["level"], step, at == on_path)
            )
        if step:
            start, end = link(each["path"][step - 1]["box"], chosen["box"], scale)
            left = x - PANEL - GAP
            links.append(
                f'<line class="link" data-step="{step}" x1="{left + start[0]}"'
                f' y1="{20 + start[1]}" x2="{x + end[0]}" y2="{20 + end[1]}"/>'
            )
    width = len(each["levels"]) * (PANEL + GAP) - GAP
    return (
        f'<svg class="tree" viewBox="-2 0 {width + 4} {PANEL + 24}" role="group" '
        f'aria-label="tree of blocks, top level first">{"".join(parts)}'
        f"{''.join(links)}</svg>"
    )


def _block(
    x: int,
    at: tuple[int, int],
    value: float,
    tints: np.ndarray,
    level: int,
    step: int,
    chosen: bool,
) -> str:
    side = PANEL / len(tints)
    text = f"level {level}, row {at[0]}, column {at[1]}: {value:+.4g}"
    text += ", on the path" if chosen else ""
    shown = (
        f'<text class="value" x="{x + (at[1] + 0.5) * side}" '
        f'y="{24 + (at[0] + 0.5) * side}">{value:+.1g}</text>'
        if len(tints) <= 4
        else ""
    )
    kind = f'chosen" data-step="{step}' if chosen else "other"
    red, green, blue = colour(tints[at])
    return (
        f'<g class="block {kind}" tabindex="0" role="img" aria-label="{text}">'
        f'<title>{text}</title><rect x="{x + at[1] * side}" y="{20 + at[0] * side}" '
        f'width="{side}" height="{side}" fill="rgb({red},{green},{blue})"/>{shown}</g>'
    )


def data_uri(image: Image.Image) -> str:
    """Return an image as a PNG inside a URI."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
