"""Boxes from heat maps, and how well they fit (weakly supervised localization).

The figures are those of Choe et al., Evaluating Weakly Supervised Object Localization
Methods Right, CVPR 2020; the paper's table has the first.
"""

from collections.abc import Iterable

import numpy as np
import scipy.ndimage

OVERLAPS = (0.3, 0.5, 0.7)  # that MaxBoxAccV2 averages over


def component_boxes(map: np.ndarray, threshold: float) -> np.ndarray:
    """Return the boxes around the connected parts of a map that reach a threshold.

    Args:
      map: (H, W) in [0, 1].
      threshold: in [0, 1].

    Returns:
      int (n, 4): left, top, right, bottom, the last two exclusive; the part with the
      most pixels first. Pixels that touch at a corner only are connected. No part at
      all gives the whole map.
    """
    parts, count = scipy.ndimage.label(map >= threshold, np.ones((3, 3), int))
    if count == 0:
        return np.array([(0, 0, map.shape[1], map.shape[0])])
    sizes = np.bincount(parts.ravel())[1:]
    slices = scipy.ndimage.find_objects(parts)
    return np.array(
        [
            (columns.start, rows.start, columns.stop, rows.stop)
            for rows, columns in (slices[k] for k in np.argsort(-sizes, kind="stable"))
        ]
    )


def overlaps(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return intersection over union (n, m) of boxes (n, 4) and (m, 4)."""
    left, right = left[:, None].astype(float), right[None].astype(float)
    low = np.maximum(left[..., :2], right[..., :2])
    high = np.minimum(left[..., 2:], right[..., 2:])
    both = np.clip(high - low, 0, None).prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (left, right)]
    return both / (areas[0] + areas[1] - both)


def localize(
    examples: Iterable[tuple[np.ndarray, np.ndarray, bool]],
    *,
    threshold: float,
    thresholds: int,
) -> dict[str, float]:
    """Score heat maps against boxes.

    Args:
      examples: per image its map for the true class, (H, W) in [0, 1], its boxes
        (n, 4) in pixels of the map, and whether the classifier is right about it.
      threshold: in [0, 1], for all figures but MaxBoxAccV2.
      thresholds: how many, equally spaced from 0 to 1, MaxBoxAccV2 chooses from.

    Returns:
      "examples"; "top1_localization_error", the share of images that are classified
      wrongly or whose largest part's box overlaps every true box by less than 0.5;
      "gt_known", the share that overlaps by at least 0.5 whatever the classifier says;
      "max_box_acc_v2"; and "best_threshold", its best at an overlap of 0.5.
    """
    levels = np.linspace(0, 1, thresholds + 1)[:-1]
    count, right, known = 0, 0, 0
    hits = np.zeros((len(OVERLAPS), len(levels)), int)
    for map, boxes, correct in examples:
        count += 1
        fits = overlaps(component_boxes(map, threshold)[:1], boxes).max() >= 0.5
        known += bool(fits)
        right += bool(fits and correct)
        for k, level in enumerate(levels):
            best = overlaps(component_boxes(map, level), boxes).max()
            hits[:, k] += best >= np.array(OVERLAPS)
    if count == 0:
        return {"examples": 0}
    return {
        "examples": count,
        "top1_localization_error": 1 - right / count,
        "gt_known": known / count,
        "max_box_acc_v2": float((hits.max(axis=1) / count).mean()),
        "best_threshold": float(levels[hits[OVERLAPS.index(0.5)].argmax()]),
    }
