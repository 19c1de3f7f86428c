"""nest.explain.localization."""

import numpy as np

from nest.explain.localization import component_boxes, localize, overlaps


def test_boxes_are_those_of_the_connected_parts_largest_first():
    map = np.zeros((6, 8))
    map[0, 0] = 1
    map[2:4, 3:6] = 0.6
    map[4, 6] = 0.6  # touches at a corner
    assert component_boxes(map, 0.5).tolist() == [[3, 2, 7, 5], [0, 0, 1, 1]]
    assert component_boxes(map, 0.9).tolist() == [[0, 0, 1, 1]]
    assert component_boxes(map, 0.0).tolist() == [[0, 0, 8, 6]]
    assert component_boxes(0 * map, 0.5).tolist() == [[0, 0, 8, 6]]


def test_overlaps_count_pixels():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 10, (2, 5, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 9, (2, 5, 2))], axis=-1)

    def pixels(box: np.ndarray) -> np.ndarray:
        y, x = np.mgrid[:20, :20]
        return (x >= box[0]) & (y >= box[1]) & (x < box[2]) & (y < box[3])

    found = overlaps(*boxes)
    for i in range(5):
        for j in range(5):
            left, right = pixels(boxes[0, i]), pixels(boxes[1, j])
            expected = (left & right).sum() / (left | right).sum()
            np.testing.assert_allclose(found[i, j], expected)


def test_the_figures_of_four_images():
    fits = np.zeros((10, 10))
    fits[2:6, 2:6] = 1
    soft = 0.4 * fits
    soft[0, 0] = 1  # the object appears only below a threshold of 0.4
    box = np.array([(2, 2, 6, 6)])
    half = np.array([(0, 0, 1, 1), (2, 2, 6, 8)])  # overlaps by 16 / 24
    figures = localize(
        [
            (fits, box, True),
            (fits, half, True),
            (fits, box, False),
            (soft, box, True),
        ],
        threshold=0.5,
        thresholds=10,
    )
    assert figures["examples"] == 4
    assert figures["top1_localization_error"] == 0.5
    assert figures["gt_known"] == 0.75
    # At 0.3 and 0.5 all four with a threshold of at most 0.4, at 0.7 three.
    np.testing.assert_allclose(figures["max_box_acc_v2"], (1 + 1 + 0.75) / 3)
    assert 0 < figures["best_threshold"] <= 0.4
    assert localize([], threshold=0.5, thresholds=10) == {"examples": 0}
