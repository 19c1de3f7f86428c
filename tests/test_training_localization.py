"""nest.training.localization."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import digits_clutter
from nest.data.reader import Reader
from nest.data.sources import Source
from nest.errors import UserError
from nest.explain import methods
from nest.training.localization import evaluate_localization


class Always(nnx.Module):
    """Takes everything for the class 0."""

    def __call__(self, images: jax.Array) -> jax.Array:
        return jnp.zeros((len(images), 2)).at[:, 0].set(1)


def bright(model: Always, images: jax.Array, classes: jax.Array) -> jax.Array:
    """A heat map that is where the light is."""
    return images.mean(axis=-1)[:, None]


def source() -> Source:
    """Five pictures of two classes, each with a bright box of its own."""

    def box(i: int) -> tuple[int, int, int, int]:
        return 2 * i, i, 2 * i + 12, i + 16

    def read(i: int) -> tuple[np.ndarray, int]:
        image = np.zeros((32, 32, 3), np.uint8)
        left, top, right, bottom = box(i)
        image[top:bottom, left:right] = 200
        return image, i % 2

    return Source(read, 5, ("a", "b"), str, lambda i: (box(i),))


def test_a_map_that_is_right_finds_every_box(monkeypatch):
    monkeypatch.setitem(methods.METHODS, "bright", bright)
    config = digits_clutter.get_config()
    config.localization.method = "bright"
    config.eval_batch_size = 2
    graphdef, params = nnx.split(Always())
    figures = evaluate_localization(
        config, Reader(source(), skip_corrupt=False), graphdef, params
    )
    assert figures["examples"] == 5
    assert figures["gt_known"] == figures["max_box_acc_v2"] == 1
    assert figures["top1_localization_error"] == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("field", "value"), [("method", "magic"), ("threshold", 1.5), ("thresholds", 0)]
)
def test_a_wrong_field_is_named(field, value):
    config = digits_clutter.get_config()
    config.localization[field] = value
    graphdef, params = nnx.split(Always())
    with pytest.raises(UserError, match=f"config.localization.{field} = "):
        evaluate_localization(
            config, Reader(source(), skip_corrupt=False), graphdef, params
        )
