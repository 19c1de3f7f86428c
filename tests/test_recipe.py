"""nest.augment.recipe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from pictures import pictures

from configs import imagenet_nest
from nest.augment.recipe import Recipe, augment, normalize
from nest.training import classifier_setup as setup
from nest.training.devices import batch_sharding, data_mesh, replicated

OFF = Recipe(
    shift=0,
    flip=False,
    randaugment=None,
    color_jitter=None,
    mean=(0.1, 0.2, 0.3),
    std=(0.5, 0.6, 0.7),
    random_erasing=None,
    smoothing=0.1,
    mix=None,
)


def batch() -> tuple[jax.Array, jax.Array]:
    images = jnp.tile(jnp.asarray(pictures(16, 16)), (4, 1, 1, 1))
    return images, jnp.arange(len(images)) % 10


def published() -> Recipe:
    """All parts on, with ImageNet's numbers."""
    return setup.build_recipe(imagenet_nest.get_config())


def test_normalize():
    images = np.asarray(batch()[0], np.float32) / 255
    out = normalize(jnp.asarray(images), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    expected = (images - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_all_off_only_normalizes_and_smooths():
    images, labels = batch()
    out, targets = augment(images, labels, jax.random.key(0), OFF, num_classes=10)
    expected = (np.asarray(images) / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    assert targets.shape == (len(images), 10)
    np.testing.assert_allclose(targets.max(axis=1), 0.91, rtol=1e-6)


def run(mesh: Mesh) -> tuple[tuple[np.ndarray, ...], str]:
    """The whole recipe, jitted over a mesh: its result and the compiled program."""

    def recipe(images: jax.Array, labels: jax.Array, key: jax.Array) -> tuple:
        return augment(images, labels, key, published(), num_classes=10)

    split = batch_sharding(mesh)
    step = jax.jit(
        recipe, in_shardings=(split, split, replicated(mesh)), out_shardings=split
    )
    compiled = step.lower(*batch(), jax.random.key(0)).compile()
    out = compiled(*jax.device_put((*batch(),), split), jax.random.key(0))
    return jax.device_get(out), compiled.as_text()


def test_the_same_pictures_whatever_the_number_of_devices(two_devices):
    (images, targets), program = run(data_mesh())
    (alone, alone_targets), _ = run(Mesh(np.array(two_devices[:1]), ("data",)))
    np.testing.assert_allclose(images, alone, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(targets, alone_targets, rtol=1e-6, atol=1e-7)
    for exchange in ("all-gather", "all-to-all", "collective-permute", "all-reduce"):
        assert exchange not in program  # mixed images stay on their device


def test_the_key_decides_everything():
    images, labels = batch()
    outs = [
        augment(images, labels, jax.random.key(k), published(), num_classes=10)[0]
        for k in (0, 0, 1)
    ]
    np.testing.assert_array_equal(outs[0], outs[1])
    assert (outs[0] != outs[2]).any()


@pytest.mark.parametrize(
    "part", ["flip", "randaugment", "color_jitter", "random_erasing", "mix"]
)
def test_every_part_does_something_alone(part: str):
    import dataclasses

    images, labels = batch()
    recipe = dataclasses.replace(OFF, **{part: getattr(published(), part)})
    plain, _ = augment(images, labels, jax.random.key(0), OFF, num_classes=10)
    out, _ = augment(images, labels, jax.random.key(0), recipe, num_classes=10)
    assert np.isfinite(out).all()
    assert (out != plain).any()
