"""Images of a generator: an image belongs to its seed, whatever is made beside it."""

from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

GREY = 96  # of the lines in a grid
Sample = Callable[[dict, jax.Array], jax.Array]


def noise_of_seeds(
    seeds: Sequence[int], noise_size: int, *, truncation: float = 0.0
) -> jax.Array:
    """Draw a noise vector for each seed.

    Args:
      seeds: each in [0, 2**32).
      noise_size: of the generator.
      truncation: no number of the noise lies outside +- this, for fewer outliers and
        less variety (arXiv 1809.11096); 0 is off.

    Returns:
      float32 (len(seeds), noise_size).
    """

    def draw(seed: jax.Array) -> jax.Array:
        key = jax.random.key(seed)
        if truncation > 0:
            return jax.random.truncated_normal(
                key, -truncation, truncation, (noise_size,)
            )
        return jax.random.normal(key, (noise_size,))

    return jax.vmap(draw)(jnp.asarray(np.array(seeds, np.uint32)))


def interpolate(first: jax.Array, second: jax.Array, steps: int) -> jax.Array:
    """Go from one noise vector to another along a great circle.

    Noise of many dimensions lies near a sphere, inside of which a straight line would
    leave what the generator has seen. The length changes linearly.

    Args:
      first, second: (noise_size,).
      steps: vectors to return, both ends among them; at least 2.

    Returns:
      (steps, noise_size).
    """
    lengths = jnp.linalg.norm(first), jnp.linalg.norm(second)
    cosine = first @ second / (lengths[0] * lengths[1])
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    share = jnp.linspace(0, 1, steps)[:, None]
    apart = jnp.sin(angle) > 1e-4
    sine = jnp.where(apart, jnp.sin(angle), 1.0)
    weights = (
        jnp.where(apart, jnp.sin((1 - share) * angle) / sine, 1 - share),
        jnp.where(apart, jnp.sin(share * angle) / sine, share),
    )
    direction = weights[0] * first / lengths[0] + weights[1] * second / lengths[1]
    return direction * ((1 - share) * lengths[0] + share * lengths[1])


def make_sampler(graphdef: nnx.GraphDef) -> Sample:
    """Build the jitted function of parameters and noise to uint8 (B, S, S, 3)."""

    def sample(params: dict, noise: jax.Array) -> jax.Array:
        return to_uint8(nnx.merge(graphdef, params)(noise))

    return jax.jit(sample)


def to_uint8(images: jax.Array) -> jax.Array:
    """Turn images in [-1, 1] into uint8."""
    return jnp.round((jnp.clip(images, -1, 1) + 1) * 127.5).astype(jnp.uint8)


def sample_batches(
    sample: Sample, params: dict, noise: jax.Array, *, batch_size: int
) -> Iterator[np.ndarray]:
    """Yield the images of the noise (N, noise_size), uint8 (b, S, S, 3).

    Every batch is computed at the same size, so that nothing is compiled twice.
    """
    count = len(noise)
    batch_size = min(batch_size, count)
    for start in range(0, count, batch_size):
        rows = np.arange(start, start + batch_size) % count  # the last one wraps around
        yield np.asarray(sample(params, noise[rows]))[: count - start]


def grid(images: np.ndarray, *, columns: int | None = None) -> np.ndarray:
    """Lay images side by side, row by row, a grey line between them.

    Args:
      images: uint8 (N, S, S, 3).
      columns: default: as square as can be.

    Returns:
      uint8 (rows * (S + 1) + 1, columns * (S + 1) + 1, 3); what is missing in the last
      row is grey.
    """
    count, size = images.shape[:2]
    columns = columns or int(np.ceil(count**0.5))
    rows = -(-count // columns)
    cell = size + 1
    cells = np.full((rows * columns, cell, cell, 3), GREY, np.uint8)
    cells[:count, 1:, 1:] = images
    cells = cells.reshape(rows, columns, cell, cell, 3).transpose(0, 2, 1, 3, 4)
    plane = cells.reshape(rows * cell, columns * cell, 3)
    return np.pad(plane, ((0, 1), (0, 1), (0, 0)), constant_values=GREY)


def enlarge(image: np.ndarray, least: int) -> np.ndarray:
    """Repeat the pixels of (H, W, 3) until each side has at least `least`."""
    factor = max(1, -(-least // min(image.shape[:2])))
    return np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
