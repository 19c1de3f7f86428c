"""nest.training.classifier_step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from nest import create_model
from nest.augment.mixing import smooth_labels
from nest.augment.recipe import normalize
from nest.training.classifier_step import init_state, make_train_step
from nest.training.devices import data_mesh, put_batch, replicated

LR, CLASSES = 0.1, 10


def batch(size: int = 8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (size, 4, 4, 3), np.uint8),
        "label": rng.integers(0, CLASSES, size).astype(np.int32),
    }


def run(
    devices: list,
    *,
    steps: int = 2,
    drop_path: float = 0.0,
    ema: float = 0.0,
    lr: float = LR,
    **kwargs,
):
    """Train a small NesT by plain gradient descent; return the states and metrics."""
    mesh = data_mesh(devices)
    model = create_model(
        "nest_tiny_s16_32",
        num_classes=CLASSES,
        image_size=4,
        layers=(1, 1),
        widths=(8, 8),
        heads=(2, 2),
        drop_path=drop_path,
        rngs=nnx.Rngs(0),
    )
    graphdef, params = nnx.split(model)
    optimizer = optax.sgd(lr)
    arguments = dict(
        augment=lambda images, labels, key: (
            normalize(images / 255, (0.5,) * 3, (0.5,) * 3),
            smooth_labels(labels, CLASSES, 0.1),
        ),
        ema_decay=ema,
        accumulation_steps=1,
        seed=0,
    )
    step = make_train_step(graphdef, optimizer, mesh, **arguments | kwargs)
    state = init_state(nnx.to_pure_dict(params), optimizer, ema=ema > 0)
    state = jax.device_put(state, replicated(mesh))
    states, metrics = [jax.device_get(state)], []
    for _ in range(steps):
        state, measured = step(state, put_batch(batch(), mesh))
        states.append(jax.device_get(state))
        metrics.append({k: float(v) for k, v in measured.compute().items()})
    return graphdef, states, metrics


def assert_close(left, right, **tolerance):
    jax.tree.map(partial(np.testing.assert_allclose, **tolerance), left, right)


def test_a_step_descends_the_smoothed_cross_entropy(two_devices):
    graphdef, states, metrics = run(two_devices, steps=1)
    images = normalize(jnp.asarray(batch()["image"]) / 255, (0.5,) * 3, (0.5,) * 3)
    targets = 0.9 * np.eye(CLASSES)[batch()["label"]] + 0.1 / CLASSES

    def loss(params):
        logits = nnx.merge(graphdef, params)(images)
        return -(targets * jax.nn.log_softmax(logits)).sum(axis=-1).mean()

    value, grads = jax.jit(jax.value_and_grad(loss))(states[0].params)
    expected = jax.tree.map(lambda p, g: p - LR * g, states[0].params, grads)
    assert metrics[0]["loss"] == pytest.approx(float(value), rel=1e-6)
    assert metrics[0]["grad_norm"] == pytest.approx(
        float(optax.tree.norm(grads)), rel=1e-5
    )
    # Gradients are sums over images and tokens in another order.
    assert_close(states[1].params, expected, rtol=1e-5, atol=5e-6)
    assert (int(states[0].step), int(states[1].step)) == (0, 1)


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_is_the_big_batch(two_devices, parts: int):
    _, whole, metrics = run(two_devices)
    _, split, split_metrics = run(two_devices, accumulation_steps=parts)
    # Sums of the same terms in another order.
    assert_close(split[-1].params, whole[-1].params, rtol=1e-5, atol=5e-6)
    for a, b in zip(split_metrics, metrics, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_one_device_equals_two(two_devices):
    _, one, one_metrics = run(two_devices[:1], drop_path=0.5)
    _, two, two_metrics = run(two_devices, drop_path=0.5)
    assert_close(two[-1].params, one[-1].params, rtol=1e-5, atol=5e-6)
    for a, b in zip(two_metrics, one_metrics, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_drop_path_is_drawn_anew_each_step_from_the_seed(two_devices):
    def losses(seed: int) -> list[float]:
        """Of two steps on the same batch with parameters that stay as they are."""
        _, _, metrics = run(two_devices, drop_path=0.9, seed=seed, lr=0.0)
        return [row["loss"] for row in metrics]

    first, second = losses(0)
    assert first != second
    assert losses(0) == [first, second]
    assert losses(1) != [first, second]


def test_ema_closed_form(two_devices):
    _, states, _ = run(two_devices, steps=3, ema=0.75)
    # ema_3 = d^3 p_0 + (1 - d) (d^2 p_1 + d p_2 + p_3)
    d = 0.75
    weights = [d**3, (1 - d) * d**2, (1 - d) * d, 1 - d]
    expected = jax.tree.map(
        lambda *params: sum(w * p for w, p in zip(weights, params, strict=True)),
        *[state.params for state in states],
    )
    assert_close(states[-1].ema, expected, rtol=1e-5, atol=1e-7)
    assert states[-1].eval_params is states[-1].ema


def test_without_ema_the_parameters_are_evaluated(two_devices):
    _, states, _ = run(two_devices, steps=1)
    assert states[-1].ema is None
    assert states[-1].eval_params is states[-1].params
