"""Training that starts from weights: what they bring, what stays, what is slower."""

import re

import optax

from nest.errors import UserError
from nest.models.classifier import NesT
from nest.weights import Report, fit, read_weights
from nest.weights.arrays import flatten, matches, unflatten


def initialize(
    model: NesT,
    source: str,
    class_names: tuple[str, ...],
    *,
    gelu: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> tuple[dict, Report]:
    """Bring weights into a model; its head stays fresh where the classes are others.

    Args:
      source: whatever `read_weights` takes.
      class_names: of the dataset to train on.
      gelu, mean, std: of the config, which have to be those of the weights.

    Returns:
      The pure dict of the parameters, and what became of each.

    Raises:
      UserError: there are no such weights, or they do not fit.
    """
    if source == "required":
        raise UserError("this config starts from weights: give --config.init_from=FILE")
    weights = read_weights(source)
    if weights.model["gelu"] != gelu:
        raise UserError(
            f"{source} was trained with the {weights.model['gelu']} GELU; set "
            f"--config.model.gelu={weights.model['gelu']}"
        )
    if (weights.mean, weights.std) != (tuple(mean), tuple(std)):
        raise UserError(
            f"{source} was trained on input of mean {weights.mean} and std "
            f"{weights.std}; set --config.data.mean and --config.data.std to these"
        )
    others = weights.class_names is not None and weights.class_names != class_names
    count_differs = weights.model["num_classes"] != len(class_names)
    return fit(weights, model, new_head=others or count_differs)


def fine_tuning(
    optimizer: optax.GradientTransformation,
    *,
    freeze: tuple[str, ...],
    layer_decay: float,
) -> optax.GradientTransformation:
    """Let parts of the model stay or learn slower.

    Args:
      freeze: names of parameters that stay as they are, with * for anything; names are
        the model's attributes, "levels.0.*" for example.
      layer_decay: the learning rate of a layer is that of the one above times this, in
        (0, 1]; the head has the full one (arXiv 2106.08254, section 3.2).

    Raises:
      UserError: from `init`, when a pattern of `freeze` fits no parameter.
    """
    if layer_decay < 1:
        optimizer = optax.chain(
            optimizer,
            optax.stateless(lambda updates, _: _scale(updates, layer_decay)),
        )
    if not freeze:
        return optimizer
    stay = optax.masked(optax.set_to_zero(), lambda params: frozen(params, freeze))
    # Before, so that a frozen gradient does not count when all are clipped together;
    # after, because of the weight decay.
    return optax.chain(stay, optimizer, stay)


def frozen(params: dict, patterns: tuple[str, ...]) -> dict:
    """Mark the parameters whose names match with True.

    Raises:
      UserError: a pattern fits no parameter.
    """
    names = flatten(params)
    for pattern in patterns:
        if not any(matches(name, [pattern]) for name in names):
            raise UserError(
                f"config.freeze: no parameter is called {pattern!r}; they are called "
                f"like {', '.join(list(names)[:3])}"
            )
    return unflatten({name: matches(name, patterns) for name in names})


def depths(params: dict) -> dict[str, int]:
    """Number the parameters, by name, by the transformer layer they belong to.

    The patch embedding is 0, layers count from 1 upwards through all levels, the last
    norm and the head come after the last. What prepares a level (its aggregation and
    position embedding) belongs to its first layer.
    """
    places = {name: _place(name) for name in flatten(params)}
    layers = sorted({place for place in places.values() if place is not None})
    numbers = {place: k for k, place in enumerate(layers, start=1)}
    last = len(layers) + 1
    return {
        name: numbers[place]
        if place is not None
        else (0 if name.startswith("patch_embedding.") else last)
        for name, place in places.items()
    }


def _place(name: str) -> tuple[int, int] | None:
    """Level and layer of a parameter; None outside of the levels."""
    found = re.match(r"levels\.(\d+)\.(?:layers\.(\d+)\.)?", name)
    return (int(found[1]), int(found[2] or 0)) if found else None


def _scale(updates: dict, decay: float) -> dict:
    depth = depths(updates)
    top = max(depth.values())
    scaled = {
        name: update * decay ** (top - depth[name])
        for name, update in flatten(updates).items()
    }
    return unflatten(scaled)
