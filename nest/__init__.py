"""NesT, the nested hierarchical transformer, in JAX and Flax (arXiv 2105.12723)."""

from nest.models.classifier import NesT
from nest.models.variants import BASELINES, VARIANTS, create_model

__all__ = ["BASELINES", "VARIANTS", "NesT", "create_model"]
