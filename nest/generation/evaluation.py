"""Evaluating a GAN's run: its samples beside held-out real images and another run."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import ml_collections
import numpy as np

from nest.errors import UserError
from nest.generation.fidelity import load_fidelity
from nest.generation.judge import load_judge
from nest.generation.loading import TrainedGenerator, load_generator
from nest.generation.quality import describe_quality, measure_quality
from nest.generation.real import RealImages, default_cache, real_images
from nest.generation.sampling import noise_of_seeds
from nest.training import gan_check, inputs, workdir

EXAMPLES = {"classifier": "digits_nest.py", "baseline": "digits_generator.py:conv"}
FIRST_SEED = 2**31  # of the samples, far from those a user looks at


def evaluate_checkpoint(
    config: ml_collections.ConfigDict, path: Path, which: str
) -> None:
    """Measure a checkpoint's samples and print the result as JSON.

    Args:
      which: "latest" or a step.

    Raises:
      UserError: no such run or checkpoint, a config that is not the run's, or nothing
        to judge by.
    """
    options = config.evaluation
    if jax.process_count() > 1:
        raise UserError(
            f"samples are measured by one process, not by {jax.process_count()}; start "
            f"evaluate.py once"
        )
    gan_check.check_evaluation(config)
    if not options.classifier and not options.inception:
        raise UserError(
            "nothing to judge by: set --config.evaluation.classifier=RUN of a NesT "
            "classifier, or --config.evaluation.inception=True for FID"
        )
    workdir.check_evaluation_config(path, config)
    if options.baseline:
        with _of_field("baseline"):
            workdir.read_config(Path(options.baseline), task="gan")
    judge = fidelity = None
    if options.inception:
        fidelity = load_fidelity(options.inception_weights or None)
    if options.classifier:
        with _of_field("classifier"):
            judge = load_judge(options.classifier, batch_size=options.batch_size)
    generators = {"samples": load_generator(path, which)}
    if options.baseline:
        generators["baseline"] = load_generator(Path(options.baseline), "latest")
        _check_sizes(**generators)
    real = _real_images(config, config.data.train_split, options.num_real)
    sets = {name: _samples(config, generator) for name, generator in generators.items()}
    sets["held_out"] = _real_images(config, config.data.eval_split, 0).batches()
    found = measure_quality(
        sets, real, judge=judge, fidelity=fidelity, cache=default_cache()
    )
    steps = {f"{name}/step": generator.step for name, generator in generators.items()}
    print(f"samples: {path}, step {generators['samples'].step}")
    if options.baseline:
        print(f"baseline: {options.baseline}, step {generators['baseline'].step}")
    print("\n".join(describe_quality(found)))
    about = {"workdir": str(path), "baseline": options.baseline or None}
    print(json.dumps(about | steps | found))


@contextlib.contextmanager
def _of_field(name: str) -> Iterator[None]:
    """Name the field whose value is wrong, and how to make what it asks for."""
    try:
        yield
    except UserError as error:
        raise UserError(
            f"config.evaluation.{name}: {error} (on the digits: python train.py "
            f"--config=configs/{EXAMPLES[name]})"
        ) from error


def _samples(
    config: ml_collections.ConfigDict, generator: TrainedGenerator
) -> Iterator[np.ndarray]:
    count = config.evaluation.num_samples
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    noise = noise_of_seeds(seeds, generator.noise_size)
    return generator.sample(noise, batch_size=config.evaluation.batch_size)


def _real_images(
    config: ml_collections.ConfigDict, split: str, count: int
) -> RealImages:
    data = config.data
    source = inputs.open_split(config, split).source
    name = data.dataset or data.data_dir
    return real_images(
        source,
        dataset=name if name == data.source else f"{data.source}:{name}",
        split=split,
        image_size=config.model.image_size,
        eval_crop=data.eval_crop,
        count=count,
        batch_size=config.evaluation.batch_size,
        in_memory=data.in_memory,
        threads=data.threads,
        skip_corrupt=data.skip_corrupt,
    )


def _check_sizes(samples: TrainedGenerator, baseline: TrainedGenerator) -> None:
    if samples.image_size != baseline.image_size:
        raise UserError(
            f"the run makes images of {samples.image_size} px, the baseline of "
            f"{baseline.image_size}; compare runs of one size"
        )
