"""nest.explain.gradcat."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import jitted
from flax import nnx

from nest.explain.cam import cam
from nest.explain.gradcat import (
    block_box,
    block_values,
    gradcat,
    order_map,
    region_means,
    search,
)
from nest.models.classifier import NesT

CLASSES = jnp.array([[0, 3], [1, 1], [4, 2]])


def random_values(seed: int, lead: tuple[int, int] = (2, 3)) -> tuple:
    rng = np.random.default_rng(seed)
    return tuple(
        jnp.asarray(rng.normal(size=(*lead, 2**k, 2**k)), jnp.float32)
        for k in (3, 2, 1, 0)
    )


def walk(maps: list[np.ndarray]) -> list[tuple[int, int]]:
    """The paper's algorithm for one image and class, block by block; top first."""
    place, path = (0, 0), [(0, 0)]
    for i in range(len(maps) - 1, 0, -1):
        side = 2 ** (len(maps) - 1 - i)
        n = maps[i].shape[0] // side
        alpha = maps[i][place[0] * n :, place[1] * n :][:n, :n]
        half = n // 2
        means = {
            (r, c): alpha[r * half : (r + 1) * half, c * half : (c + 1) * half].mean()
            for r in (0, 1)
            for c in (0, 1)
        }
        best = max(means, key=means.get)
        place = (2 * place[0] + best[0], 2 * place[1] + best[1])
        path.append(place)
    return path


@pytest.fixture(scope="module")
def trees(small_model, small_images) -> dict[str, Any]:
    """The explanations under test and CAM's, compiled together to save time."""

    def explain(model: NesT, images: jax.Array) -> dict[str, Any]:
        return {
            "plus": gradcat(model, images, CLASSES),
            "minus": gradcat(model, images, CLASSES, sign=-1),
            "before norm": gradcat(model, images, CLASSES, normalized_top=False),
            "one by one": [
                gradcat(model, images, CLASSES[:, k : k + 1]) for k in range(2)
            ],
            "cam": cam(model, images, CLASSES),
        }

    return jitted(explain, small_model, small_images)


@pytest.mark.parametrize("sign", ["plus", "minus"])
def test_the_path_is_that_of_the_paper_s_algorithm(trees, sign):
    tree = trees[sign]
    for b, k in itertools.product(range(3), range(2)):
        path = walk([np.asarray(maps[b, k]) for maps in tree.maps])
        assert tree.path[b, k].tolist()[::-1] == [list(place) for place in path]


def test_the_sign_turns_the_maps_over(trees):
    pairs = zip(trees["plus"].maps, trees["minus"].maps, strict=True)
    for plus, minus in pairs:
        np.testing.assert_allclose(plus, -minus, atol=1e-6)


def test_classes_together_are_as_one_by_one(trees):
    for k, alone in enumerate(trees["one by one"]):
        for left, right in zip(trees["plus"].maps, alone.maps, strict=True):
            np.testing.assert_allclose(left[:, k], right[:, 0], atol=1e-5)


def test_the_top_map_is_cam_by_the_number_of_tokens(trees):
    np.testing.assert_allclose(trees["plus"].maps[-1], trees["cam"] / 16, atol=1e-6)


def test_before_the_norm_the_top_map_vanishes(trees):
    """A LayerNorm ignores the scale of its input: x * gradient sums to 0."""
    after, before = trees["plus"], trees["before norm"]
    assert jnp.abs(before.maps[-1]).max() < 1e-5 * jnp.abs(after.maps[-1]).max()
    np.testing.assert_allclose(before.maps[0], after.maps[0], atol=1e-6)


def test_a_value_is_the_mean_over_what_the_block_became():
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(1, 1, n, n)).astype(np.float32) for n in (16, 8, 4)]
    values = block_values(tuple(map(jnp.asarray, maps)))
    assert [x.shape[-1] for x in values] == [4, 2, 1]
    np.testing.assert_allclose(
        values[0][0, 0, 3, 1], maps[1][0, 0, 6:8, 2:4].mean(), rtol=1e-5
    )
    np.testing.assert_allclose(
        values[1][0, 0, 1, 0], maps[2][0, 0, 2:, :2].mean(), rtol=1e-5
    )
    np.testing.assert_allclose(values[2][0, 0, 0, 0], maps[2].mean(), rtol=1e-5)


def test_a_border_through_a_token_halves_it():
    maps = jnp.array([[1.0, 2, 4], [0, 0, 0], [0, 0, 8]])
    # The middle token counts a quarter, its neighbours half, out of 2.25.
    expected = np.array([[1 + 2 / 2, 4 + 2 / 2], [0, 8]]) / 2.25
    np.testing.assert_allclose(region_means(maps, 2), expected, rtol=1e-6)


def test_a_wide_beam_finds_the_best_of_all_paths():
    values = random_values(1, lead=(1, 1))
    scaled = [np.asarray(x[0, 0]) / np.abs(x).max() for x in values]
    totals = {
        (row, column): sum(
            scaled[i][row >> i, column >> i] for i in range(len(values) - 1)
        )
        for row in range(8)
        for column in range(8)
    }
    ranking = sorted(totals, key=totals.get, reverse=True)
    paths, scores = search(values, width=100)
    assert paths.shape == (1, 1, 64, 4, 2)
    assert [tuple(leaf) for leaf in paths[0, 0, :, 0].tolist()] == ranking
    np.testing.assert_allclose(scores[0, 0], [totals[x] for x in ranking], atol=1e-5)


def test_every_path_leads_from_parent_to_child():
    paths, scores = search(random_values(2), width=5)
    paths = np.asarray(paths)
    np.testing.assert_array_equal(paths[..., :-1, :] // 2, paths[..., 1:, :])
    assert (np.diff(scores, axis=-1) <= 0).all()


def test_the_order_follows_the_path(trees):
    tree = trees["plus"]
    order = np.asarray(order_map(tree.values))
    assert order.min() == 0 and order.max() == 1
    for b, k in itertools.product(range(3), range(2)):
        assert len(np.unique(order[b, k])) == 16
        first = np.unravel_index(order[b, k].argmax(), (4, 4))
        assert first == tuple(tree.path[b, k, 0].tolist())
        worst = region_means(tree.maps[-1], 2)[b, k].argmin()
        last = np.unravel_index(order[b, k].argmin(), (4, 4))
        assert worst == 2 * (last[0] // 2) + last[1] // 2


def test_boxes_tile_the_image():
    assert block_box(16, 1, 0, 0) == (0, 0, 16, 16)
    assert block_box(16, 4, 1, 2) == (8, 4, 12, 8)


def test_constant_values_give_numbers():
    values = tuple(jnp.zeros((1, 1, 2**k, 2**k)) for k in (2, 1, 0))
    paths, scores = search(values, width=3)
    assert jnp.isfinite(scores).all() and (paths[0, 0, 0] == 0).all()
    assert jnp.isfinite(order_map(values)).all()


def test_it_costs_at_most_a_forward_and_a_backward_pass(small_model, small_images):
    graphdef, params = nnx.split(small_model)

    def flops(function, *arguments) -> float:
        return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]

    def explain(params, images):
        return gradcat(nnx.merge(graphdef, params), images, CLASSES[:, :1])

    def train(params, images):
        return jax.value_and_grad(
            lambda params: nnx.merge(graphdef, params)(images).sum()
        )(params)

    assert flops(explain, params, small_images) < flops(train, params, small_images)


def test_one_level_is_no_tree(small_images):
    model = nnx.eval_shape(
        lambda: NesT(
            image_size=16,
            patch_size=4,
            layers=(1,),
            widths=(8,),
            heads=(2,),
            attention="multi_head",
            drop_path=0.0,
            num_classes=5,
            rngs=nnx.Rngs(0),
        )
    )
    with pytest.raises(ValueError, match="one level"):
        gradcat(model, small_images, CLASSES)
