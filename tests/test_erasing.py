"""nest.augment.erasing."""

import jax
import jax.numpy as jnp
import numpy as np

from nest.augment.erasing import random_erasing

PUBLISHED = dict(probability=0.25, area=(0.02, 1 / 3), aspect=(0.3, 1 / 0.3))


def erased(count: int, side: int = 32, **changes) -> tuple[np.ndarray, np.ndarray]:
    images = jnp.full((count, side, side, 3), 7.0)
    out = np.asarray(random_erasing(images, jax.random.key(0), **PUBLISHED | changes))
    return out, (out != 7).any(axis=-1)


def test_a_quarter_of_the_images_lose_a_box():
    _, box = erased(4000)
    hit = box.any(axis=(1, 2))
    # Four standard deviations; a box off the image is too rare to matter.
    assert abs(hit.mean() - 0.25) < 4 * np.sqrt(0.1875 / 4000)
    rows, columns = box.any(axis=2), box.any(axis=1)
    np.testing.assert_array_equal(box, rows[:, :, None] & columns[:, None, :])
    for line in np.concatenate([rows[hit], columns[hit]]):
        at = np.flatnonzero(line)
        assert at[-1] - at[0] + 1 == len(at)  # in one piece
    share = box.mean(axis=(1, 2))
    # Whole pixels: a side may be one pixel longer than drawn.
    assert share.max() < 1 / 3 + 2 * 0.6 / 32 + 0.01


def test_the_box_is_standard_normal_noise_in_every_channel():
    out, box = erased(400, probability=1.0)
    noise = out[box]
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert abs(noise.std() - 1) < 4 / np.sqrt(noise.size)
    assert abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) < 0.02


def test_area_and_aspect_are_those_asked_for():
    """A box of half the area around the centre keeps its size; others are cut."""
    _, box = erased(4000, side=100, probability=1.0, area=(0.1, 0.1), aspect=(2.0, 2.0))
    heights = box.any(axis=2).sum(axis=1)
    widths = box.any(axis=1).sum(axis=1)
    # sqrt(0.1 * 2) and sqrt(0.1 / 2) of the side, where nothing was cut off.
    assert set(np.unique(heights)) <= set(range(46)) and heights.max() in (44, 45)
    assert widths.max() in (22, 23)


def test_probability_zero_leaves_the_images():
    assert not erased(100, probability=0.0)[1].any()
