"""nest.training.optimizer."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nest import create_model
from nest.training.optimizer import adamw, decay_mask, warmup_cosine

ADAM = dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05, clip_norm=0.0)


def test_schedule_closed_form():
    schedule = warmup_cosine(0.3, 10, 110)
    for step in (0, 1, 9, 10, 11, 60, 109, 110):
        if step < 10:
            expected = 0.3 * step / 10
        else:
            expected = 0.3 * 0.5 * (1 + math.cos(math.pi * (step - 10) / 100))
        assert float(schedule(step)) == pytest.approx(expected, abs=1e-7)


def test_schedule_without_warmup_starts_at_the_peak():
    assert float(warmup_cosine(0.3, 0, 10)(0)) == pytest.approx(0.3)


def test_everything_but_the_position_embeddings_is_decayed():
    model = create_model(
        "nest_tiny_s16_32",
        image_size=8,
        layers=(1, 1),
        widths=(4, 4),
        heads=(1, 1),
        rngs=nnx.Rngs(0),
    )
    mask = decay_mask(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    paths = jax.tree_util.tree_flatten_with_path(mask)[0]
    kept = {jax.tree_util.keystr(path) for path, decayed in paths if not decayed}
    assert kept == {
        "['levels'][0]['position_embedding']",
        "['levels'][1]['position_embedding']",
    }
    assert len(paths) > 30


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("deit_tiny_patch4_32", {"class_token", "position_embedding"}),
        ("swin_tiny_patch2_window4_32", {"position_bias"}),
        ("wide_resnet_28_10", set()),
    ],
)
def test_what_is_not_decayed_of_a_baseline(name: str, kept: set[str]):
    model = nnx.eval_shape(lambda: create_model(name, rngs=nnx.Rngs(0)))
    mask = decay_mask(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    paths = jax.tree_util.tree_flatten_with_path(mask)[0]
    assert {path[-1].key for path, decayed in paths if not decayed} == kept


def test_one_step_closed_form():
    params = {"kernel": jnp.array([2.0, -3.0]), "position_embedding": jnp.array([5.0])}
    grads = {"kernel": jnp.array([0.1, -7.0]), "position_embedding": jnp.array([0.2])}
    optimizer = adamw(0.01, **ADAM)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    # Adam's first step is the learning rate times the sign of the gradient.
    np.testing.assert_allclose(
        updates["kernel"], [-0.01 * (1 + 0.05 * 2), -0.01 * (-1 - 0.05 * 3)], rtol=1e-5
    )
    np.testing.assert_allclose(updates["position_embedding"], [-0.01], rtol=1e-5)


def test_clipping_scales_the_whole_gradient():
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    grads = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    clipped = adamw(1.0, **ADAM | {"clip_norm": 1.0})
    plain = adamw(1.0, **ADAM)
    scaled = jax.tree.map(lambda x: x / 5, grads)  # norm 5

    def second_moment(optimizer, grads):
        _, state = optimizer.update(grads, optimizer.init(params), params)
        return [x for x in jax.tree.leaves(state) if x.ndim]

    for ours, theirs in zip(
        second_moment(clipped, grads), second_moment(plain, scaled), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
