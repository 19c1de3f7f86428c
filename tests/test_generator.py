"""nest.models.generator, conv_generator and the table of generators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import jitted
from flax import nnx

from nest.models.generator import Generator
from nest.models.generators import GENERATORS, create_generator

SMALL = dict(
    image_size=16, noise_size=5, layers=(1, 1, 1), widths=(16, 8, 4), heads=(2, 2, 2)
)


def count(name: str) -> int:
    model = nnx.eval_shape(lambda: create_generator(name, rngs=nnx.Rngs(0)))
    return sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))


def shaken(model: nnx.Module) -> nnx.Module:
    """The same with weights far from their small start."""
    graphdef, params = nnx.split(model)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(scale=0.3, size=x.shape), jnp.float32), params
    )
    return nnx.merge(graphdef, params)


@pytest.mark.parametrize(
    ("name", "published"),
    [("nest_generator_64", 74.4e6), ("transgan_64", 82.6e6), ("sagan_64", 77.8e6)],
)
def test_sizes_of_the_papers_comparison(name, published):
    assert abs(count(name) / published - 1) < 0.02


def test_parameters_of_the_transposed_nest_by_hand():
    def layer(c: int) -> int:
        return 12 * c * c + 13 * c  # four matrices of attention, eight of the MLP

    levels = [(1024, 5, 8), (256, 3, 16), (64, 2, 32), (16, 2, 64)]
    total = 129 * 64 * 1024  # noise to the first block
    total += sum(n * layer(c) + side**2 * c for c, n, side in levels)
    total += 2 * 16 + 17 * 3  # last norm, to pixels
    assert count("nest_generator_64") == total


@pytest.mark.parametrize("name", [name for name in GENERATORS if "nest" in name])
def test_every_published_level_has_blocks_of_8x8_tokens(name):
    model = nnx.eval_shape(lambda: create_generator(name, rngs=nnx.Rngs(0)))
    for i, level in enumerate(model.levels):
        assert level.position_embedding.shape[1:3] == (4**i, 64)
    noise = jax.ShapeDtypeStruct((3, model.noise_size), jnp.float32)
    size = int(name.rsplit("_", 1)[1])
    images = nnx.eval_shape(lambda model, noise: model(noise), model, noise)
    assert images.shape == (3, size, size, 3)


def reached(model: Generator) -> np.ndarray:
    """Which pixels change with one token of the last level's position embedding."""
    noise = jnp.ones((1, 5))
    before = jitted(lambda model, noise: model(noise), model, noise)
    embedding = model.levels[-1].position_embedding
    blocks = embedding.shape[1]
    embedding[...] = embedding[...].at[0, blocks // 2, 0, 0].add(1.0)
    after = jitted(lambda model, noise: model(noise), model, noise)
    return np.asarray(jnp.abs(after - before).max(axis=-1)[0] > 0)


def test_attention_stays_inside_a_block():
    changed = reached(shaken(Generator(**SMALL, rngs=nnx.Rngs(0))))
    expected = np.zeros((16, 16), bool)
    expected[8:12, :4] = True  # the first of the third row of 4x4 blocks
    np.testing.assert_array_equal(changed, expected)


def test_without_nesting_all_tokens_attend_to_each_other():
    assert reached(shaken(Generator(**SMALL, nested=False, rngs=nnx.Rngs(0)))).all()


@pytest.mark.parametrize("overrides", [dict(widths=(16, 8, 8)), dict(patch_size=2)])
def test_images_lie_in_range(overrides):
    model = shaken(Generator(**SMALL | overrides, rngs=nnx.Rngs(0)))
    images = jitted(lambda model, noise: model(noise), model, jnp.ones((2, 5)))
    assert images.shape == (2, 16, 16, 3) and images.dtype == jnp.float32
    assert jnp.abs(images).max() <= 1


def test_patches_are_laid_out_in_rows():
    model = Generator(**SMALL | dict(patch_size=2), rngs=nnx.Rngs(0))
    model.to_pixels.kernel[...] = jnp.zeros_like(model.to_pixels.kernel)
    bias = jnp.arange(12.0) / 12  # pixel (0, 0), (0, 1), (1, 0), (1, 1), each RGB
    model.to_pixels.bias[...] = bias
    image = model(jnp.ones((1, 5)))[0]
    expected = np.tanh(np.asarray(bias)).reshape(2, 2, 3)
    np.testing.assert_allclose(image, np.tile(expected, (8, 8, 1)), atol=1e-6)


def test_bfloat16_keeps_parameters_in_float32():
    model = Generator(**SMALL, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    dtypes = {x.dtype for x in jax.tree.leaves(nnx.state(model, nnx.Param))}
    assert dtypes == {jnp.dtype("float32")}
    assert model(jnp.ones((1, 5))).dtype == jnp.float32


def test_the_convolutional_one_makes_images():
    model = create_generator(
        "sagan_64", image_size=8, noise_size=5, widths=(8, 8, 4), rngs=nnx.Rngs(0)
    )
    images = jitted(lambda model, noise: model(noise), model, jnp.ones((2, 5)))
    assert images.shape == (2, 8, 8, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(name="nest_generator_64", image_size=100), "nearest: 96 and 104"),
        (dict(name="nest_generator_64", image_size=8), "nearest: 16"),
        (dict(name="nest_generator_64", layers=(1, 1)), "one entry per level"),
        (dict(name="nest_generator_64", heads=(3, 4, 4, 4)), "not divisible by its 3"),
        (dict(name="nest_generator_64", upsampling="magic"), "no upsampling 'magic'"),
        (dict(name="nest_generator_64", patch_size=0), "patch_size must be positive"),
        (dict(name="nest_generator_64", layers=(1, 1, 1, -1)), "not be negative"),
        (dict(name="sagan_64", image_size=100), "multiple of 16"),
        (dict(name="sagan_64", layers=(1, 1)), "has no layers"),
        (dict(name="nest_65"), "no generator 'nest_65'; there are: nest_generator_16"),
    ],
)
def test_what_does_not_fit_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: create_generator(**arguments, rngs=nnx.Rngs(0)))
