"""The GAN's training loop: the transposed NesT against a discriminator."""

import contextlib
import sys
import time
from functools import reduce
from pathlib import Path

import clu.parameter_overview
import jax
import ml_collections
import numpy as np
from PIL import Image

from nest.data.reader import Reader
from nest.errors import UserError
from nest.generation.sampling import (
    enlarge,
    grid,
    make_sampler,
    noise_of_seeds,
)
from nest.training import devices, gan_check, hosts, inputs, workdir
from nest.training import gan_setup as setup
from nest.training.checkpoints import Checkpoints, Metrics
from nest.training.checksum import agree_on_parameters
from nest.training.gan_step import GanMetrics, GanState
from nest.training.interruption import Interruption, ListeningStep
from nest.training.metrics import MetricsLog, device_memory
from nest.training.profiler import Profiler
from nest.training.progress import Progress

VARIED = 0.2  # diversity from which on images differ as something learned
COLLAPSED = 0.1  # diversity below which images are all but the same


def train(config: ml_collections.ConfigDict, path: Path) -> None:
    """Train the GAN in the workdir `path`, from its newest checkpoint if any.

    Raises:
      UserError: anything a user can mend; what was saved before stays.
      SystemExit: a signal stopped the run; everything is saved.
    """
    started = time.perf_counter()
    mesh = devices.data_mesh()
    gan_check.check(config, mesh)
    reader = inputs.open_split(config, config.data.train_split)
    _check_enough(reader, config.batch_size)
    hosts.agree(
        {
            "the number of training images": reader.source.num_examples,
            "the list of classes": list(reader.source.class_names),
        }
    )
    noise_size = setup.check_networks(config)

    with contextlib.ExitStack() as stack:
        stack.enter_context(workdir.claim(path, config))
        data = {
            "class_names": reader.source.class_names,
            "train_examples": reader.source.num_examples,
        }
        workdir.check_data(path, data)
        generator, discriminator, state = setup.build_state(config, mesh)
        checkpoints = Checkpoints(path, keep=config.keep_checkpoints)
        stack.callback(checkpoints.close)
        first = 0
        restored = checkpoints.restore_latest(state)
        if restored is not None:
            first, state, _ = restored
        agree_on_parameters((state.generator, state.discriminator))
        if first >= config.num_steps:
            print(f"{path} is finished at step {first}")
            _say_where(path)
            return
        workdir.record(path, config, first, data)
        _say_what(config, path, reader, first, state)

        primary = jax.process_index() == 0
        log = MetricsLog(path, start_step=first, active=primary)
        stack.callback(log.close)
        interruption = stack.enter_context(Interruption())
        profiler = Profiler(
            path / "profile", config.profile_steps if primary else (0, 0)
        )
        stack.callback(profiler.stop)
        sample = make_sampler(generator)
        fixed_noise = np.asarray(noise_of_seeds(range(config.num_samples), noise_size))
        batches = inputs.build_train_batches(
            config, reader, start=first, stop=config.num_steps
        )
        batches = (
            devices.put_batch({"image": batch["image"]}, mesh) for batch in batches
        )
        progress = Progress(num_steps=config.num_steps, batch_size=config.batch_size)
        # Steps left undrained on fake CPU devices can deadlock; elsewhere the host may
        # run a little ahead of the device.
        ahead = 0 if jax.default_backend() == "cpu" else 2
        train_step = ListeningStep(
            setup.build_step(
                config, generator, discriminator, mesh, noise_size=noise_size
            ),
            mesh,
            interruption,
            ahead=ahead,
        )
        window: list[GanMetrics] = []
        collapse = CollapseWatch()
        # It waits for all, so an error of one of them has to end them inside of it.
        stack.callback(inputs.report_skipped, reader)
        stack.enter_context(hosts.ending_together())

        for step, batch in enumerate(progress.timed(batches), start=first + 1):
            profiler.before(step)
            state, metrics = train_step(state, batch)
            window.append(metrics)
            jax.block_until_ready(window[max(0, len(window) - 1 - ahead)])
            profiler.after(step, metrics)
            last = step == config.num_steps
            received = train_step.received()
            stopping = received is not None and not last
            sampling = last or step % config.sample_every_steps == 0
            saving = last or stopping or step % config.checkpoint_every_steps == 0
            logging = last or stopping or step % config.log_every_steps == 0
            if sampling or saving or logging:
                _check_finite(window, step, checkpoints)
            if logging:
                figures = _means(window) | progress.window() | device_memory()
                log.write(step, {f"train/{name}": x for name, x in figures.items()})
                progress.warn_of_waiting(
                    figures["input_wait_share"], inputs.mend_waiting(config)
                )
                if collapse.happened(figures["diversity"]):
                    _warn_of_collapse(step, figures["diversity"])
                progress.show(
                    step, figures["generator_loss"], figures["images_per_second"]
                )
                window = []
            if sampling:
                images = grid(np.asarray(sample(state.ema, fixed_noise)))
                if primary:
                    _save_samples(path, step, images)
                log.write_image(step, "samples", images)
                progress.note(
                    f"step {step}/{config.num_steps}  samples in {path / 'samples'}"
                )
            if saving:
                checkpoints.save(step, state, {})
            if sampling or saving or step == first + 1:  # compiled in the first
                progress.restart()
            if stopping:
                checkpoints.wait()
                print(
                    f"stopped by {received.name}; step {step} of "
                    f"{config.num_steps} is saved in {path}: run the same command "
                    f"to go on"
                )
                raise SystemExit(128 + received)
        checkpoints.wait()
    part = f" since step {first}" if first else ""
    print(f"finished in {time.perf_counter() - started:.0f} s{part}")
    _say_where(path)


class CollapseWatch:
    """Notices when images that differed become all but the same.

    Those of an untrained generator do not differ yet, which is no collapse.
    """

    def __init__(self) -> None:
        self._varied = False

    def happened(self, diversity: float) -> bool:
        """Take the next window's diversity; True once for every collapse."""
        if diversity >= VARIED:
            self._varied = True
        if self._varied and diversity < COLLAPSED:
            self._varied = False
            return True
        return False


def _means(window: list[GanMetrics]) -> Metrics:
    return reduce(GanMetrics.merge, jax.device_get(window)).means()


def _check_finite(
    window: list[GanMetrics], step: int, checkpoints: Checkpoints
) -> None:
    """Raise UserError if any step since the last log line went wrong."""
    fetched = jax.device_get(window)
    for at, metrics in enumerate(fetched, start=step - len(window) + 1):
        figures = {
            "generator's loss": metrics.generator_loss.total,
            "its gradient's norm": metrics.generator_grad_norm.total,
            "discriminator's loss": metrics.discriminator_loss.total,
            "its gradient's norm with R1": metrics.discriminator_grad_norm.total,
            "R1": metrics.r1.total,
            "then the parameters' norm": metrics.param_norm.total,
        }
        if not all(map(np.isfinite, figures.values())):
            checkpoints.wait()
            steps = checkpoints.steps()
            good = "there is no checkpoint yet"
            if steps:
                folder = checkpoints.workdir / "checkpoints" / str(steps[-1])
                good = f"the last good checkpoint is {folder}"
            told = ", ".join(f"{name} {value}" for name, value in figures.items())
            raise UserError(
                f"step {at}: {told}; {good}; lower "
                f"config.discriminator_lr and config.generator_lr or raise "
                f"config.r1_gamma, in a new --workdir"
            )


def _warn_of_collapse(step: int, diversity: float) -> None:
    print(
        f"warning: the generator has collapsed at step {step}: its images differ "
        f"{diversity:.2f} times as much as real ones; raise config.r1_gamma, lower "
        f"config.generator_lr, or for small data set config.augmentations, in a new "
        f"--workdir",
        file=sys.stderr,
        flush=True,
    )


def _check_enough(reader: Reader, batch_size: int) -> None:
    count = reader.source.num_examples
    if count < batch_size:
        raise UserError(
            f"the training split has {count} images, fewer than config.batch_size = "
            f"{batch_size}; lower it or add images"
        )


def _save_samples(path: Path, step: int, images: np.ndarray) -> None:
    file = path / "samples" / f"{step:07}.png"
    file.parent.mkdir(exist_ok=True)
    Image.fromarray(enlarge(images, 512)).save(file)


def _say_what(
    config: ml_collections.ConfigDict,
    path: Path,
    reader: Reader,
    first: int,
    state: GanState,
) -> None:
    networks = {"generator": state.generator, "discriminator": state.discriminator}
    overview = clu.parameter_overview.get_parameter_overview(
        networks, include_stats=False
    )
    if jax.process_index() == 0:
        (path / "parameters.txt").write_text(overview + "\n")
    generator, discriminator = (
        clu.parameter_overview.count_parameters(params) for params in networks.values()
    )
    begin = f"resuming at step {first}" if first else "training from scratch"
    print(
        f"{begin} in {path}: {config.model.generator.name}, {generator:,} parameters, "
        f"against a discriminator of {discriminator:,}, {jax.device_count()} "
        f"{jax.devices()[0].device_kind} device(s) of {jax.process_count()} "
        f"process(es)\n"
        f"{reader.source.num_examples:,} training images at {config.model.image_size} "
        f"px, {config.num_steps:,} steps of {config.batch_size}",
        flush=True,
    )


def _say_where(path: Path) -> None:
    print(
        f"samples      {path / 'samples'}\n"
        f"checkpoints  {path / 'checkpoints'}\n"
        f"metrics      {path / 'metrics.jsonl'}, tensorboard --logdir "
        f"{path / 'tensorboard'}"
    )
