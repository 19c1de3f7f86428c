"""Weight files: the authors', timm's and ours, read, written and fitted."""

from nest.weights.arrays import Report
from nest.weights.fitting import fit
from nest.weights.reading import read_weights
from nest.weights.weights import Weights
from nest.weights.writing import write_weights

__all__ = ["Report", "Weights", "fit", "read_weights", "write_weights"]
