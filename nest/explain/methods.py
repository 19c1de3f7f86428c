"""Every explanation behind one interface: a model, images and classes to heat maps."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nest.explain.cam import cam, grad_cam, hires_cam
from nest.explain.gradcat import gradcat, order_map
from nest.explain.input_gradient import input_gradient, input_times_gradient
from nest.explain.rollout import rollout
from nest.models.classifier import NesT

Method = Callable[[NesT, jax.Array, jax.Array], jax.Array]
Explain = Callable[[dict, jax.Array, jax.Array], Any]


def gradcat_order(
    model: NesT, images: jax.Array, classes: jax.Array, **options: Any
) -> jax.Array:
    """GradCAT as a heat map: see `nest.explain.gradcat.order_map`.

    Args:
      **options: of `gradcat`.
    """
    return order_map(gradcat(model, images, classes, **options).values)


def noise(model: NesT, images: jax.Array, classes: jax.Array) -> jax.Array:
    """Noise drawn for each image: what an explanation that says nothing scores.

    Returns:
      (B, K, H, W) of N(0, 1), as many as the top level has tokens.
    """
    side = 2 * model.levels[-1].block_size

    def draw(image: jax.Array, chosen: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(image.astype(jnp.float32), jnp.uint32)
        key = jax.random.fold_in(jax.random.key(0), bits.sum(dtype=jnp.uint32))
        keys = jax.vmap(partial(jax.random.fold_in, key))(chosen)
        return jax.vmap(lambda key: jax.random.normal(key, (side, side)))(keys)

    return jax.vmap(draw)(images, classes)


METHODS: dict[str, Method] = {
    "gradcat": gradcat_order,
    "gradcat_minus": partial(gradcat_order, sign=-1),  # the paper's Algorithm 1
    "gradcat_before_norm": partial(gradcat_order, normalized_top=False),
    "gradcat_before_norm_minus": partial(gradcat_order, sign=-1, normalized_top=False),
    "cam": cam,
    "grad_cam": grad_cam,
    "grad_cam_below": partial(grad_cam, level=-2),
    "hires_cam_below": partial(hires_cam, level=-2),
    "rollout": rollout,
    "input_gradient": input_gradient,
    "input_times_gradient": input_times_gradient,
    "noise": noise,  # the control
}


def compile_method(
    graphdef: nnx.GraphDef, method: Callable[[NesT, jax.Array, jax.Array], Any]
) -> Explain:
    """Jit a method as a function of parameters, images (B, S, S, 3), classes (B, K)."""

    @jax.jit
    def explain(params: dict, images: jax.Array, classes: jax.Array) -> Any:
        return method(nnx.merge(graphdef, params), images, classes)

    return explain


def stream(
    explain: Explain,
    params: dict,
    examples: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    batch_size: int,
) -> Iterator[Any]:
    """Explain any number of images in the memory of one batch.

    Args:
      explain: as `compile_method` returns it.
      examples: pairs of an image (S, S, 3), normalized, and its classes, int (K,).

    Yields:
      For each example, in order, what `explain` returns without the batch axis, on the
      host.
    """
    images, classes = [], []

    def flush() -> Iterator[Any]:
        count = len(images)
        # The last batch is filled up, so that there is one shape to compile.
        rows = [min(i, count - 1) for i in range(batch_size)]
        batch = (np.stack([part[i] for i in rows]) for part in (images, classes))
        explained = jax.device_get(explain(params, *batch))
        for i in range(count):
            yield jax.tree.map(lambda x, i=i: x[i], explained)
        images.clear()
        classes.clear()

    for image, chosen in examples:
        images.append(image)
        classes.append(chosen)
        if len(images) == batch_size:
            yield from flush()
    if images:
        yield from flush()


def to_unit(maps: jax.Array) -> jax.Array:
    """Scale each map (..., H, W) to [0, 1]; a constant one becomes 0 everywhere."""
    low, high = (f(maps, axis=(-2, -1), keepdims=True) for f in (jnp.min, jnp.max))
    spread = high - low
    return jnp.where(spread > 0, (maps - low) / jnp.where(spread > 0, spread, 1), 0)


def to_signed_unit(maps: jax.Array) -> jax.Array:
    """Divide each map (..., H, W) by its largest magnitude; a zero one stays 0."""
    largest = jnp.abs(maps).max(axis=(-2, -1), keepdims=True)
    return maps / jnp.where(largest > 0, largest, 1)


def enlarge(maps: jax.Array, size: int) -> jax.Array:
    """Resize maps (..., H, W) to (..., size, size), bilinear."""
    return jax.image.resize(maps, (*maps.shape[:-2], size, size), "bilinear")
