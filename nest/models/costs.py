"""What a model costs: its parameters, and the multiply-adds of one image.

Counted as the literature does: convolutions and matrix products only, a multiplication
and an addition together as one, and the zeros of a padding like any other pixel.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def count_parameters(model: nnx.Module) -> int:
    """Count the parameters of a model, which may be one of shapes only."""
    params = jax.tree.leaves(nnx.state(model, nnx.Param))
    return sum(math.prod(x.shape) for x in params)


def count_multiply_adds(model: nnx.Module) -> int:
    """Count the multiply-adds of a classifier's forward pass for one image.

    Args:
      model: a NesT or a baseline; one of shapes only will do.
    """
    graphdef, state = nnx.split(model)
    size = (1, model.image_size, model.image_size, model.in_channels)
    image = jax.ShapeDtypeStruct(size, jnp.float32)
    return multiply_adds(lambda state, x: nnx.merge(graphdef, state)(x), state, image)


def multiply_adds(function: Callable[..., Any], *arguments: Any) -> int:
    """Count the multiply-adds of a function of arrays or shapes, without running it.

    Raises:
      ValueError: it loops until a condition is met, so that nothing can be counted.
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of_jaxpr(jaxpr: Jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: JaxprEqn) -> int:
    name = equation.primitive.name
    if name == "dot_general":
        return _of_product(equation)
    if name == "conv_general_dilated":
        return _of_convolution(equation)
    inner = [_of_jaxpr(jaxpr) for jaxpr in _inside(equation.params)]
    if name == "scan":
        return equation.params["length"] * sum(inner)
    if name == "cond":
        return max(inner)
    if name == "while" and sum(inner):
        raise ValueError("multiply-adds in a loop of unknown length cannot be counted")
    return sum(inner)


def _of_product(equation: JaxprEqn) -> int:
    """Every element of the result is a sum over the contracted axes."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, _ = equation.invars
    length = math.prod(left.aval.shape[axis] for axis in contracted)
    return length * math.prod(equation.outvars[0].aval.shape)


def _of_convolution(equation: JaxprEqn) -> int:
    """Every element of the result is a sum over the kernel but its output channels."""
    kernel = equation.invars[1].aval.shape
    output_axis = equation.params["dimension_numbers"].rhs_spec[0]
    places = math.prod(kernel) // kernel[output_axis]
    return places * math.prod(equation.outvars[0].aval.shape)


def _inside(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """The jaxprs among an equation's parameters, whatever they are called."""
    is_leaf = lambda x: isinstance(x, Jaxpr | ClosedJaxpr)  # noqa: E731
    for value in jax.tree.leaves(list(params.values()), is_leaf=is_leaf):
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
