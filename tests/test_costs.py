"""nest.models.costs: layers counted by hand, and the published figures."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from nest import create_model
from nest.models.costs import count_multiply_adds, count_parameters, multiply_adds

# G multiply-adds of one image, to the last digit told: arXiv 2105.12723, table 2, for
# NesT; the models' own papers for the others (ResNet-50: 3.8 in its paper, which has
# the stride elsewhere; version 1.5 has 4.1).
PUBLISHED = {
    "nest_tiny_s196_224": 5.8,
    "deit_small_patch16_224": 4.6,
    "swin_tiny_patch4_window7_224": 4.5,
    "resnet50": 4.1,
}


def shape(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


SLOW = {"nest_small_s196_224": 10.4, "nest_base_s196_224": 17.9}


@pytest.mark.parametrize(
    ("name", "published"),
    [
        *PUBLISHED.items(),
        *(pytest.param(*item, marks=pytest.mark.slow) for item in SLOW.items()),
    ],
)
def test_published_multiply_adds(name: str, published: float):
    model = nnx.eval_shape(lambda: create_model(name, rngs=nnx.Rngs(0)))
    # Which of the small terms count differs from paper to paper.
    assert count_multiply_adds(model) / 1e9 == pytest.approx(published, abs=0.1)


def test_products_by_hand():
    count = multiply_adds
    assert count(jnp.matmul, shape(3, 4), shape(4, 5)) == 3 * 4 * 5
    assert count(jnp.matmul, shape(7, 3, 4), shape(7, 4, 5)) == 7 * 3 * 4 * 5
    assert count(lambda x: x + 1, shape(3, 4)) == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (dict(padding="SAME"), 8 * 8 * 9 * 6 * 4),
        (dict(padding="VALID"), 6 * 6 * 9 * 6 * 4),
        (dict(padding="SAME", strides=2), 4 * 4 * 9 * 6 * 4),
        (dict(padding="SAME", feature_group_count=2), 8 * 8 * 9 * 3 * 4),
    ],
)
def test_convolutions_by_hand(options: dict, expected: int):
    conv = nnx.Conv(6, 4, (3, 3), rngs=nnx.Rngs(0), **options)
    assert multiply_adds(conv, shape(2, 8, 8, 6)) == 2 * expected


def test_what_is_inside_counts_as_often_as_it_runs():
    one = 3 * 4 * 4

    def product(x: jax.Array, w: jax.Array) -> jax.Array:
        return x @ w

    def scanned(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, _: (x @ w, None), x, length=5)[0]

    def either(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.cond(x.sum() > 0, lambda: x @ w @ w, lambda: x)

    def until(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: x @ w, x)

    arguments = shape(3, 4), shape(4, 4)
    assert multiply_adds(jax.jit(product), *arguments) == one
    assert multiply_adds(jax.checkpoint(product), *arguments) == one
    assert multiply_adds(scanned, *arguments) == 5 * one
    assert multiply_adds(either, *arguments) == 2 * one
    with pytest.raises(ValueError, match="unknown length"):
        multiply_adds(until, *arguments)


def test_recomputing_is_not_of_the_forward_pass():
    counts = {
        count_multiply_adds(
            nnx.eval_shape(
                lambda remat=remat: create_model(
                    "deit_tiny_patch4_32", layers=(1,), remat=remat, rngs=nnx.Rngs(0)
                )
            )
        )
        for remat in (True, False)
    }
    assert len(counts) == 1


def test_a_vision_transformer_by_hand():
    model = nnx.eval_shape(
        lambda: create_model("deit_tiny_patch4_32", num_classes=10, rngs=nnx.Rngs(0))
    )
    tokens, width = 65, 192
    layer = tokens * 12 * width**2 + 2 * tokens**2 * width
    patches = 64 * 4 * 4 * 3 * width
    assert count_multiply_adds(model) == patches + 12 * layer + 10 * width
    layer = 12 * width**2 + 13 * width
    around = 48 * width + width + width + tokens * width + 2 * width + 10 * width + 10
    assert count_parameters(model) == around + 12 * layer
