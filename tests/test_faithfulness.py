"""nest.explain.faithfulness."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import stats

from nest.explain import faithfulness


class Brightness(nnx.Module):
    """Two logits: 0, and the sum over the image of the first colour."""

    def __call__(self, images: jax.Array) -> jax.Array:
        total = images[..., 0].sum(axis=(1, 2))
        return jnp.stack([jnp.zeros_like(total), total], axis=-1)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [
        faithfulness.bootstrap(rng.normal(size=80), resamples=200) for _ in range(300)
    ]
    covered = np.mean([low <= 0 <= high for _, low, high in intervals])
    # 95 %, less a little of a percentile interval of 80; four standard deviations.
    assert abs(covered - 0.94) < 4 * (0.94 * 0.06 / 300) ** 0.5


def test_a_mosaic_holds_its_classes_where_it_says():
    labels = np.array([0, 1, 2, 3, 4, 4])
    tiles = np.zeros((6, 2, 2, 3), np.uint8) + labels[:, None, None, None].astype("u1")
    grids, found = faithfulness.mosaics(tiles, labels, count=50, seed=0)
    assert grids.shape == (50, 4, 4, 3)
    for grid, quarters in zip(grids, found, strict=True):
        assert len(set(quarters)) == 4
        corners = [grid[y, x, 0] for y in (0, 3) for x in (0, 3)]
        assert corners == list(quarters)
    assert len(set(found[:, 0])) == 5


def test_the_pointed_quarter_has_the_largest_mean():
    maps = np.zeros((1, 2, 6, 6))
    maps[0, 0, 4, 1] = 1  # bottom left
    maps[0, 1, :3, :3] = -1
    maps[0, 1, 3:, :] = -2
    assert faithfulness.pointed_quarters(maps).tolist() == [[2, 1]]


def test_a_point_in_the_box_counts_and_ties_count_in_part():
    maps = np.zeros((3, 4, 4))
    maps[0, 1, 2] = maps[1, 3, 3] = 1
    boxes = np.array([(2, 1, 3, 2), (0, 0, 3, 3), (0, 0, 4, 1)])
    assert faithfulness.point_in_box(maps, boxes).tolist() == [1, 0, 0.25]


def test_ranks_go_from_the_largest_and_ties_are_not_in_raster_order():
    maps = jnp.arange(16.0).reshape(1, 4, 4)
    np.testing.assert_array_equal(
        faithfulness.pixel_ranks(maps)[0], np.arange(16)[::-1].reshape(4, 4)
    )
    ties = np.asarray(jax.jit(faithfulness.pixel_ranks)(jnp.zeros((1, 8, 8)))).ravel()
    assert sorted(ties) == list(range(64))
    # Four standard deviations of a random order's correlation.
    assert abs(stats.spearmanr(ties, np.arange(64))[0]) < 4 / 63**0.5


def test_the_curves_of_a_model_that_adds_up():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[0, 0], images[1, 3] = 255, 255  # a bright row
    fill = np.zeros_like(images)
    maps = np.zeros((2, 4, 4), np.float32)
    maps[:, 0] = 1  # right about the first, wrong about the second
    graphdef, params = nnx.split(Brightness())
    curves = faithfulness.make_curves(
        graphdef, mean=(0.0,) * 3, std=(1.0,) * 3, steps=4
    )
    deletion, insertion = curves(params, images, fill, np.array([1, 1]), maps)
    high, low = 1 / (1 + np.exp(-4)), 0.5
    np.testing.assert_allclose(deletion[0], [high, low, low, low, low], rtol=1e-6)
    np.testing.assert_allclose(insertion[0], [low, high, high, high, high], rtol=1e-6)
    np.testing.assert_allclose(deletion[1, :2], high, rtol=1e-6)
    areas = faithfulness.area_under(np.asarray(deletion))
    np.testing.assert_allclose(areas[0], low + (high - low) / 8, rtol=1e-6)
    assert areas[0] < areas[1]


def test_shuffled_weights_are_the_same_numbers_elsewhere(small_model):
    params = nnx.to_pure_dict(nnx.split(small_model)[1])
    top = faithfulness.randomize(params, np.random.default_rng(0), levels=1)
    whole = faithfulness.randomize(params, np.random.default_rng(0), levels=3)

    def same(left: dict, right: dict) -> list[bool]:
        pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
        return [bool((a == b).all()) for a, b in pairs]

    assert not any(same(top["head"], params["head"]))
    assert not any(same(top["levels"][2], params["levels"][2]))
    assert all(same(top["levels"][1], params["levels"][1]))
    assert all(same(top["patch_embedding"], params["patch_embedding"]))
    assert not any(same(whole, params))
    assert jax.tree.structure(whole) == jax.tree.structure(params)
    for left, right in zip(
        jax.tree.leaves(whole), jax.tree.leaves(params), strict=True
    ):
        np.testing.assert_array_equal(np.sort(np.ravel(left)), np.sort(np.ravel(right)))


def test_rank_correlation_is_spearman_s_and_of_a_constant_0():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 9, (2, 3, 4, 4)).astype(float)
    right[2] = 7
    found = faithfulness.rank_correlations(left, right)
    for i in range(2):
        expected = stats.spearmanr(left[i].ravel(), right[i].ravel())[0]
        np.testing.assert_allclose(found[i], expected, atol=1e-12)
    assert found[2] == 0
