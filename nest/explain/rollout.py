"""Attention rollout, adapted to blocks: which pixels the top tokens look at."""

import jax
import jax.numpy as jnp

from nest.models.classifier import NesT
from nest.models.layers import blockify, unblockify


def rollout(model: NesT, images: jax.Array, classes: jax.Array) -> jax.Array:
    """Follow the attention from the head down to the bottom tokens.

    Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020: each layer
    mixes its tokens by the mean of its heads' attention and, for the residual, half of
    the identity. There it starts at a class token; here the head averages all tokens of
    the top block, so each starts with an equal share. There all tokens attend to all;
    here the matrices are multiplied inside each block, and at an aggregation every
    token hands its share in equal parts to the 2x2 tokens at its place below, which
    leaves out what the 3x3 convolution and pool see beside them.

    It knows nothing of classes: the map is the same for each.

    Args:
      images: (B, S, S, 3), normalized.
      classes: int (B, K).

    Returns:
      (B, K, H, W), one number of [0, 1] per token of the bottom level; they sum to 1.
    """
    mixings = []
    x = model.embed(images)
    for level in model.levels:
        x = level.enter(x)
        mixing = jnp.eye(x.shape[2])
        for layer in level.layers:
            weights = layer.attention.weights(layer.attention_norm(x)).mean(axis=2)
            mixing = (weights @ mixing + mixing) / 2  # (B, G, N, N)
            x = layer(x)
        mixings.append(mixing)
        x = unblockify(x)
    batch, height, width, _ = x.shape
    share = jnp.full((batch, height, width, 1), 1 / (height * width))
    for i in reversed(range(len(mixings))):
        # Row n of a mixing says where the token n takes from.
        block_size = model.levels[i].block_size
        share = blockify(share, block_size).swapaxes(2, 3) @ mixings[i]
        share = unblockify(share.swapaxes(2, 3))
        if i:
            share = share.repeat(2, axis=1).repeat(2, axis=2) / 4
    share = share[:, None, :, :, 0]
    return share.repeat(classes.shape[1], axis=1)
