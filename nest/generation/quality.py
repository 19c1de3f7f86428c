"""How good sets of images are, side by side: samples, a baseline's, held-out real ones.

What makes the figures honest: a Frechet distance falls as the number of images grows,
so it is given at each set's own count, at one count for all, and for as many random
draws from the real images themselves, which is what a perfect generator gets. (A
stratified test split gets less: its classes are balanced, random draws are not.) The
kernel distance is unbiased. Copies of training images would please all of these, so
near copies are counted. Every count and every source is in the result.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nest.errors import UserError
from nest.generation.fidelity import MEASURES, Fidelity, measure_fidelity
from nest.generation.frechet import Statistics, frechet_distance, gather_statistics
from nest.generation.judge import (
    KEPT,
    RECOGNISED,
    Judge,
    Judgement,
    judge_images,
    judge_real_images,
)
from nest.generation.kernel_distance import kernel_distance
from nest.generation.precision_recall import precision_recall, share_of_near_copies
from nest.generation.real import RealImages, collect

DRAWS = 10  # random subsets that a figure is averaged over
NEIGHBOURS = 3  # of precision and recall


def measure_quality(
    sets: Mapping[str, Iterable[np.ndarray]],
    real: RealImages,
    *,
    judge: Judge | None,
    fidelity: Fidelity | None,
    cache: Path,
    measures: tuple[str, ...] = MEASURES,
) -> dict[str, Any]:
    """Measure sets of images against the real ones.

    Args:
      sets: name -> uint8 batches (n, S, S, 3) of the real images' size, each read once.
      judge: a trained classifier, or None.
      fidelity: torch-fidelity with its Inception network, or None.
      cache: folder for what is found of the real images.
      measures: torch-fidelity's, some of `nest.generation.fidelity.MEASURES`.

    Returns:
      One flat dict for JSON: "dataset", "split", "image_size", "num_real" and, per set,
      "NAME/num_samples" and the figures. Of the judge: "judge", where its weights come
      from, "judge_fingerprint", "judge_features" (D), "equal_count" and

      * NAME/nest_recognised: share of the images with a probability above 0.9;
      * NAME/nest_classes_covered: classes as which at least one is recognised;
      * NAME/nest_classes_effective: exp of the entropy of the classes' shares of the
        recognised images, and NAME/nest_class_shares, those shares;
      * NAME/nest_frechet_distance: of all images to all real ones, in the judge's
        feature space;
      * NAME/nest_frechet_distance_of_draws: of as many random draws (with replacement)
        from the real images;
      * NAME/nest_frechet_distance_at_equal_count: of random subsets of one size;
      * NAME/nest_kernel_distance: unbiased, of at most 10,000 images each;
      * NAME/nest_precision, NAME/nest_recall: at the equal count, 3 neighbours;
      * NAME/nest_near_copies: see `share_of_near_copies`, among at most 10,000 images.

      The first four are there for "real" too. Of torch-fidelity: "extractor" and
      what `measure_fidelity` returns.

    Raises:
      UserError: too few images.
      ValueError: images of another type or size.
    """
    images = {
        name: collect(batches, real.image_size, name) for name, batches in sets.items()
    }
    results: dict[str, Any] = {
        "dataset": real.dataset,
        "split": real.split,
        "image_size": real.image_size,
        "num_real": real.count,
    }
    results |= {f"{name}/num_samples": len(array) for name, array in images.items()}
    if judge is not None:
        results |= _ask(judge, images, real, cache)
    if fidelity is not None:
        results["extractor"] = str(fidelity)
        for name, array in images.items():
            found = measure_fidelity(fidelity, array, real, cache, measures=measures)
            results |= {f"{name}/{key}": value for key, value in found.items()}
    return results


def describe_quality(results: Mapping[str, Any]) -> list[str]:
    """Say what `measure_quality` found, in a few lines per set."""
    real = f"{results['num_real']} real images of {results['dataset']}/"
    real += f"{results['split']}, {results['image_size']} pixels a side"
    lines = []
    names = [key.rpartition("/")[0] for key in results if key.endswith("/num_samples")]
    if "judge" in results:
        space = f"the feature space of {results['judge']}"
        lines.append(
            f"real ({real}): {_recognition(results, 'real')}; judge: {results['judge']}"
        )
    for name in names:
        at = {
            key.removeprefix(f"{name}/"): value
            for key, value in results.items()
            if key.startswith(f"{name}/")
        }
        lines.append(f"{name}: {at['num_samples']} images against {real}")
        if "judge" in results:
            equal = results["equal_count"]
            lines += [
                f"  {_recognition(results, name)}",
                f"  Frechet distance in {space} (not FID): "
                f"{at['nest_frechet_distance']:.4g}; as many draws from the real "
                f"images: {at['nest_frechet_distance_of_draws']:.4g}; at {equal} "
                f"images: {at['nest_frechet_distance_at_equal_count']:.4g}",
                f"  in the same space: kernel distance "
                f"{at['nest_kernel_distance']:.4g}; precision "
                f"{at['nest_precision']:.3f} and recall {at['nest_recall']:.3f} at "
                f"{equal} images, {NEIGHBOURS} neighbours; near copies "
                f"{at['nest_near_copies']:.1%}",
            ]
            if at["num_samples"] < 2 * results["judge_features"]:
                lines.append(
                    f"  {at['num_samples']} images are few for a covariance of "
                    f"{results['judge_features']} features: take more"
                )
        if "extractor" in results:
            lines.append(f"  {results['extractor']}: {_fidelity(at)}")
    counts = {results[f"{name}/num_samples"] for name in names}
    if len(counts) > 1 and "extractor" in results:
        lines.append("FID of different numbers of images is not comparable")
    return lines


def _recognition(results: Mapping[str, Any], name: str) -> str:
    shares = results[f"{name}/nest_class_shares"]
    return (
        f"recognised with p > {RECOGNISED}: {results[f'{name}/nest_recognised']:.2%}, "
        f"as {results[f'{name}/nest_classes_covered']} of {len(shares)} classes "
        f"(effectively {results[f'{name}/nest_classes_effective']:.2f})"
    )


def _fidelity(at: Mapping[str, Any]) -> str:
    parts = []
    if "fid" in at:
        parts.append(f"FID {at['fid']:.4g}")
    if "inception_score" in at:
        score, deviation = at["inception_score"], at["inception_score_std"]
        parts.append(f"Inception score {score:.4g} +- {deviation:.2g}")
    if "kid" in at:
        parts.append(
            f"KID {at['kid']:.4g} +- {at['kid_std']:.2g} over subsets of "
            f"{at['kid_subset_size']}"
        )
    if "inception_precision" in at:
        parts.append(
            f"precision {at['inception_precision']:.3f} and recall "
            f"{at['inception_recall']:.3f} in Inception features"
        )
    return "; ".join(parts)


def _ask(
    judge: Judge, images: Mapping[str, np.ndarray], real: RealImages, cache: Path
) -> dict[str, Any]:
    truth = judge_real_images(judge, real, cache)
    found = {
        name: judge_images(judge, [array], len(array)) for name, array in images.items()
    }
    equal = min(truth.count, KEPT, *(each.count for each in found.values()))
    if equal <= NEIGHBOURS:
        counts = {name: each.count for name, each in found.items()}
        raise UserError(
            f"too few images ({truth.count} real, "
            f"{', '.join(f'{name} {count}' for name, count in counts.items())}): each "
            f"needs {NEIGHBOURS} neighbours, and a figure that means something "
            f"thousands; take more samples or a larger evaluation split"
        )
    results = {
        "judge": judge.source,
        "judge_fingerprint": judge.fingerprint[:16],
        "judge_features": truth.features.shape[1],
        "num_real": truth.count,
        "equal_count": equal,
    } | _recognised("real", truth)
    for name, each in found.items():
        precision, recall = precision_recall(
            each.features[:equal], truth.features[:equal], neighbours=NEIGHBOURS
        )
        results |= _recognised(name, each) | {
            f"{name}/nest_frechet_distance": frechet_distance(
                each.statistics, truth.statistics
            ),
            f"{name}/nest_frechet_distance_of_draws": _of_draws(truth, each.count),
            f"{name}/nest_frechet_distance_at_equal_count": _at_count(
                each, truth.statistics, equal
            ),
            f"{name}/nest_kernel_distance": kernel_distance(
                each.features, truth.features
            ),
            f"{name}/nest_precision": precision,
            f"{name}/nest_recall": recall,
            f"{name}/nest_near_copies": share_of_near_copies(
                each.features, truth.features
            ),
        }
    return results


def _recognised(name: str, found: Judgement) -> dict[str, Any]:
    shares = found.shares()
    there = shares[shares > 0]
    entropy = float(-np.sum(there * np.log(there)))
    return {
        f"{name}/nest_recognised": float(found.recognised.sum() / found.count),
        f"{name}/nest_classes_covered": len(there),
        f"{name}/nest_classes_effective": float(np.exp(entropy)) if len(there) else 0.0,
        f"{name}/nest_class_shares": [round(float(share), 6) for share in shares],
    }


def _of_draws(real: Judgement, count: int) -> float:
    """Mean distance of `count` draws from the real features to all of them."""
    kept = gather_statistics([real.features])
    return _mean_distance(real.features, kept, count, replace=True)


def _at_count(found: Judgement, real: Statistics, count: int) -> float:
    """Mean distance of subsets of `count` images."""
    if count == found.count:
        return frechet_distance(found.statistics, real)
    return _mean_distance(found.features, real, count, replace=False)


def _mean_distance(
    features: np.ndarray, real: Statistics, count: int, *, replace: bool
) -> float:
    rng = np.random.default_rng(0)
    draws = [rng.choice(features, count, replace=replace) for _ in range(DRAWS)]
    distances = [frechet_distance(gather_statistics([draw]), real) for draw in draws]
    return float(np.mean(distances))
