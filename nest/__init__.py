"""NesT, the nested hierarchical transformer, in JAX and Flax (arXiv 2105.12723)."""

from nest.models.classifier import NesT
from nest.models.variants import VARIANTS, create_model

__all__ = ["VARIANTS", "NesT", "create_model"]
