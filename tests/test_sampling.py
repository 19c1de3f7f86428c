"""nest.generation.sampling: seeds, truncation, interpolation, grids."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nest.generation.sampling import (
    GREY,
    enlarge,
    grid,
    interpolate,
    noise_of_seeds,
    sample_batches,
    to_uint8,
)


def test_noise_belongs_to_its_seed():
    noise = noise_of_seeds([5, 2**32 - 1, 7], 4)
    np.testing.assert_array_equal(noise[2], noise_of_seeds([7], 4)[0])
    assert len(np.unique(noise)) == 12


def test_noise_is_standard_normal():
    noise = np.asarray(noise_of_seeds(range(500), 40))
    assert abs(noise.mean()) < 4 / 20_000**0.5  # four standard errors
    assert abs(noise.std() - 1) < 4 / 40_000**0.5


def test_truncated_noise_stays_inside():
    noise = np.asarray(noise_of_seeds(range(200), 50, truncation=0.7))
    assert abs(noise).max() <= 0.7
    # Of a normal truncated at 0.7 by the closed form: 1 - 2 t phi(t) / (2 Phi(t) - 1).
    density = np.exp(-0.49 / 2) / (2 * np.pi) ** 0.5
    variance = 1 - 2 * 0.7 * density / 0.51607
    assert noise.var() == pytest.approx(variance, rel=0.05)


def test_interpolation_goes_along_the_great_circle():
    first, second = jnp.array([3.0, 0, 0]), jnp.array([0, 1.0, 0])
    path = np.asarray(interpolate(first, second, 3))
    np.testing.assert_allclose(path[0], first, atol=1e-6)
    np.testing.assert_allclose(path[2], second, atol=1e-6)
    np.testing.assert_allclose(path[1], [2 / 2**0.5, 2 / 2**0.5, 0], atol=1e-6)


def test_interpolation_between_the_same_vector_stays_there():
    noise = jnp.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(
        interpolate(noise, noise, 4), np.tile(noise, (4, 1)), rtol=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_batches_hold_every_image_once(batch_size):
    noise = jnp.arange(7.0)[:, None]

    def sample(params: dict, noise: jax.Array) -> jax.Array:
        return jnp.broadcast_to(noise[:, :, None, None], (len(noise), 2, 2, 3))

    batches = list(sample_batches(sample, {}, noise, batch_size=batch_size))
    assert all(len(batch) <= batch_size for batch in batches)
    np.testing.assert_array_equal(np.concatenate(batches)[:, 0, 0, 0], np.arange(7))


def test_pixels_use_the_whole_range():
    found = to_uint8(jnp.array([-2.0, -1.0, 0.0, 1.0, 2.0]))
    np.testing.assert_array_equal(found, [0, 0, 128, 255, 255])


def test_a_grid_has_lines_between_its_images():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 2, 2, 3), np.uint8
    )
    picture = grid(images, columns=3)
    line = np.full(10, GREY)
    first = [GREY, 0, 0, GREY, 1, 1, GREY, 2, 2, GREY]
    second = [GREY, 3, 3, GREY, 4, 4, GREY, GREY, GREY, GREY]
    rows = np.array([line, first, first, line, second, second, line])
    np.testing.assert_array_equal(picture, np.repeat(rows[..., None], 3, axis=-1))


def test_enlarging_repeats_pixels():
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)
    large = enlarge(image, 5)
    assert large.shape == (6, 9, 3)
    np.testing.assert_array_equal(large[::3, ::3], image)
    np.testing.assert_array_equal(enlarge(image, 2), image)
