"""FID, Inception score, KID, precision and recall, as torch-fidelity computes them.

All in the features of the Inception network that FID is defined with; precision and
recall too, for which Kynkaanniemi et al. took a VGG-16.
"""

import contextlib
import dataclasses
import hashlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nest.errors import UserError
from nest.generation.real import RealImages, cache_name, collect

MEASURES = ("fid", "isc", "kid", "prc")
EXTRACTOR = "inception-v3-compat"
SUBSET = 1000  # images in each of KID's subsets, where there are so many
NEAREST = 3  # neighbours in precision and recall

# torch-fidelity's names of the results, and ours.
RESULTS = {
    "frechet_inception_distance": "fid",
    "inception_score_mean": "inception_score",
    "inception_score_std": "inception_score_std",
    "kernel_inception_distance_mean": "kid",
    "kernel_inception_distance_std": "kid_std",
    "precision": "inception_precision",
    "recall": "inception_recall",
}


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """torch-fidelity and its Inception network, ready to measure.

    Attributes:
      package: torch_fidelity.
      weights: file of the network's parameters.
      fingerprint: SHA-256 of the file.
      batch_size: images at a time.
    """

    package: ModuleType
    weights: Path
    fingerprint: str
    batch_size: int

    def __str__(self) -> str:
        version = self.package.__version__
        return f"torch-fidelity {version}, {EXTRACTOR}, weights {self.fingerprint[:8]}"


def load_fidelity(weights: str | Path | None, *, batch_size: int = 64) -> Fidelity:
    """Find torch-fidelity and the weights of its Inception network.

    Args:
      weights: file, or None to download it, or find it where PyTorch keeps downloads.
      batch_size: images at a time.

    Raises:
      UserError: not installed, no such file and no connection, or another file.
    """
    try:
        import torch
        import torch_fidelity
        from torch_fidelity import feature_extractor_inceptionv3 as inception
    except ImportError as error:
        raise UserError(
            f"FID and its kind need {error.name}, which is not installed: "
            f"pip install -r requirements-fidelity.txt"
        ) from error
    except RuntimeError as error:  # What torchvision's operators raise.
        raise UserError(
            f"torch and torchvision do not fit together ({_reason(error)}); install "
            f"both from one place, as pytorch.org shows"
        ) from error
    url = inception.URL_INCEPTION_V3
    mend = f"download {url} and set --config.evaluation.inception_weights=FILE"
    if weights is None:
        try:
            torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, weights_only=True
            )
        except Exception as error:  # The network's own kinds, and a damaged file's.
            raise UserError(
                f"the weights of the Inception network could not be downloaded "
                f"({_reason(error)}); {mend}"
            ) from error
        weights = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    weights = Path(weights)
    if not weights.is_file():
        raise UserError(f"no file {weights} with the Inception network; {mend}")
    try:
        # torch-fidelity unpickles whatever the file holds; this refuses all but arrays.
        torch.load(weights, map_location="cpu", weights_only=True)
        inception.FeatureExtractorInceptionV3(
            EXTRACTOR, ["2048"], feature_extractor_weights_path=str(weights)
        )
    except Exception as error:  # pickle, zip and torch each raise their own.
        raise UserError(
            f"{weights} does not hold the Inception network of torch-fidelity "
            f"({_reason(error)}); {mend}"
        ) from error
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return Fidelity(torch_fidelity, weights, digest, batch_size)


def measure_fidelity(
    fidelity: Fidelity,
    images: np.ndarray,
    real: RealImages,
    cache: Path,
    *,
    measures: tuple[str, ...] = MEASURES,
) -> dict[str, Any]:
    """Compare images with real ones.

    Args:
      images: uint8 (N, S, S, 3).
      cache: folder for the features of the real images.
      measures: some of `MEASURES`.

    Returns:
      Those of "fid", "inception_score" and its "_std" over ten parts of the images,
      "kid" and its "_std" over 100 subsets of "kid_subset_size" images,
      "inception_precision" and "inception_recall".

    Raises:
      UserError: an unknown measure, too few images, or real ones that are missing.
    """
    check_measures(measures)
    if min(len(images), real.count) <= 10:
        raise UserError(
            f"{len(images)} images and {real.count} real ones are too few for FID and "
            f"its kind; give thousands, 11 at the least"
        )
    import torch

    loaded: dict[str, np.ndarray] = {}

    def load_real() -> np.ndarray:  # Not called where the cache has their features.
        if "real" not in loaded:
            array = collect(real.batches(), real.image_size, str(real))
            if len(array) != real.count:
                raise UserError(
                    f"{real.count - len(array)} of {real.count} real images of {real} "
                    f"could not be read; replace them: FID is against a stated number"
                )
            loaded["real"] = array
        return loaded["real"]

    subset = min(SUBSET, len(images), real.count)
    key = real.key() | {"extractor": fidelity.fingerprint, "package": str(fidelity)}
    name = cache_name(key)
    folder = cache / "torch-fidelity"
    _drop_damaged(folder, name)
    found = fidelity.package.calculate_metrics(
        input1=_dataset(torch, lambda: images, len(images)),
        input2=_dataset(torch, load_real, real.count),
        input2_cache_name=name,
        cache_root=str(folder),
        **{measure: measure in measures for measure in MEASURES},
        feature_extractor=EXTRACTOR,
        feature_extractor_weights_path=str(fidelity.weights),
        kid_subset_size=subset,
        prc_neighborhood=NEAREST,
        batch_size=fidelity.batch_size,
        cuda=torch.cuda.is_available(),
        # Its other way forks processes to load arrays, which JAX's threads forbid.
        save_cpu_ram=True,
        verbose=False,
    )
    _note_checksums(folder, name)
    results: dict[str, Any] = {
        ours: float(found[theirs])
        for theirs, ours in RESULTS.items()
        if theirs in found
    }
    return results | ({"kid_subset_size": subset} if "kid" in measures else {})


def check_measures(measures: tuple[str, ...]) -> None:
    """Raise UserError for a measure that is none of `MEASURES`."""
    for measure in measures:
        if measure not in MEASURES:
            raise UserError(f"no measure {measure!r}; there are: {', '.join(MEASURES)}")


def _dataset(torch: ModuleType, load: Any, count: int) -> Any:
    class Images(torch.utils.data.Dataset):
        """Single images (3, S, S), loaded when the first is asked for."""

        def __len__(self) -> int:
            return count

        def __getitem__(self, i: int) -> Any:
            return torch.from_numpy(np.moveaxis(load()[i], -1, 0).copy())

    return Images()


def _drop_damaged(folder: Path, name: str) -> None:
    """Remove cached features that are not what was written: torch-fidelity would fail,
    and unpickle whatever is there."""
    noted = {}
    with contextlib.suppress(OSError, ValueError):
        lines = (folder / f"{name}.sha256").read_text().splitlines()
        noted = dict(reversed(line.split("  ", 1)) for line in lines)
    for file in folder.glob(f"{name}-*.pt"):
        if noted.get(file.name) != _checksum(file):
            file.unlink()


def _note_checksums(folder: Path, name: str) -> None:
    lines = [
        f"{_checksum(file)}  {file.name}\n"
        for file in sorted(folder.glob(f"{name}-*.pt"))
    ]
    part = folder / f".{name}.{os.getpid()}.part"
    part.write_text("".join(lines))
    part.replace(folder / f"{name}.sha256")


def _checksum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
