"""The classifier's training loop (paper, section 4)."""

import contextlib
import math
import time
from functools import reduce
from pathlib import Path

import clu.parameter_overview
import jax
import ml_collections
import numpy as np

from nest.data.reader import Reader
from nest.errors import UserError
from nest.training import classifier_check, devices, hosts, inputs, workdir
from nest.training import classifier_setup as setup
from nest.training.checkpoints import Checkpoints, Metrics
from nest.training.checksum import agree_on_parameters
from nest.training.classifier_evaluation import check_count, summary
from nest.training.classifier_step import TrainMetrics
from nest.training.evaluation import evaluate
from nest.training.interruption import Interruption, ListeningStep
from nest.training.metrics import MetricsLog, device_memory
from nest.training.profiler import Profiler
from nest.training.progress import Progress


def train(config: ml_collections.ConfigDict, path: Path) -> None:
    """Train the classifier in the workdir `path`, from its newest checkpoint if any.

    Raises:
      UserError: anything a user can mend; what was saved before stays.
      SystemExit: a signal stopped the run; everything is saved.
    """
    started = time.perf_counter()
    mesh = devices.data_mesh()
    classifier_check.check(config, mesh)
    reader = inputs.open_split(config, config.data.train_split)
    eval_reader = inputs.open_split(config, config.data.eval_split)
    _check_classes(reader, eval_reader)
    class_names = reader.source.class_names
    num_classes = len(class_names)
    schedule = setup.Schedule.of(config, reader.source.num_examples)
    optimizer = setup.build_optimizer(config, schedule.learning_rate)
    hosts.agree(
        {
            "the number of training images": reader.source.num_examples,
            "the number of test images": eval_reader.source.num_examples,
            "the list of classes": list(class_names),
        }
    )
    graphdef, state = setup.build_state(
        config, optimizer, mesh, num_classes=num_classes
    )

    with contextlib.ExitStack() as stack:
        stack.enter_context(workdir.claim(path, config))
        data = {
            "class_names": class_names,
            "train_examples": reader.source.num_examples,
            "eval_examples": eval_reader.source.num_examples,
        }
        workdir.check_data(path, data)
        checkpoints = Checkpoints(path, keep=config.keep_checkpoints)
        stack.callback(checkpoints.close)
        first, results = 0, {}
        restored = checkpoints.restore_latest(state)
        if restored is not None:
            first, state, results = restored
        if first >= schedule.num_steps:
            print(f"{path} is finished at step {first}: {summary(results)}")
            _say_where(path)
            return
        if restored is None and config.init_from:
            state, report = setup.build_state_from_weights(
                config, optimizer, mesh, class_names=class_names
            )
            print(f"weights of {config.init_from}:\n{report}")
        agree_on_parameters(state.params)
        workdir.record(path, config, first, data)
        _say_what(config, path, reader, eval_reader, first, schedule, state.params)

        primary = jax.process_index() == 0
        log = MetricsLog(path, start_step=first, active=primary)
        stack.callback(log.close)
        interruption = stack.enter_context(Interruption())
        profiler = Profiler(
            path / "profile", config.profile_steps if primary else (0, 0)
        )
        stack.callback(profiler.stop)
        eval_step = setup.build_eval_step(config, graphdef, mesh)
        eval_batches = setup.build_eval_batches(config, eval_reader)
        batches = inputs.build_train_batches(
            config, reader, start=first, stop=schedule.num_steps
        )
        batches = (devices.put_batch(batch, mesh) for batch in batches)
        progress = Progress(num_steps=schedule.num_steps, batch_size=config.batch_size)
        best = (checkpoints.best_metrics() or {}).get("top1", -math.inf)
        # Steps left undrained on fake CPU devices can deadlock; elsewhere the host may
        # run a little ahead of the device.
        ahead = 0 if jax.default_backend() == "cpu" else 2
        train_step = ListeningStep(
            setup.build_train_step(
                config, graphdef, optimizer, mesh, num_classes=num_classes
            ),
            mesh,
            interruption,
            ahead=ahead,
        )
        window: list[TrainMetrics] = []
        # It waits for all, so an error of one of them has to end them inside of it.
        stack.callback(inputs.report_skipped, reader, eval_reader)
        stack.enter_context(hosts.ending_together())

        for step, batch in enumerate(progress.timed(batches), start=first + 1):
            profiler.before(step)
            state, metrics = train_step(state, batch)
            window.append(metrics)
            jax.block_until_ready(window[max(0, len(window) - 1 - ahead)])
            profiler.after(step, metrics)
            last = step == schedule.num_steps
            received = train_step.received()
            stopping = received is not None and not last
            evaluating = last or step % schedule.eval_every == 0
            saving = last or stopping or step % schedule.checkpoint_every == 0
            logging = last or stopping or step % config.log_every_steps == 0
            if evaluating or saving or logging:
                _check_finite(window, step, checkpoints)
            if logging:
                figures = _means(window) | progress.window() | device_memory()
                figures["lr"] = float(schedule.learning_rate(step - 1))
                log.write(step, {f"train/{name}": x for name, x in figures.items()})
                progress.warn_of_waiting(
                    figures["input_wait_share"], inputs.mend_waiting(config)
                )
                progress.show(step, figures["loss"], figures["images_per_second"])
                window = []
            if evaluating:
                results, _ = evaluate(eval_step, state.eval_params, eval_batches, mesh)
                check_count(results, eval_reader)
                log.write(step, {f"eval/{name}": x for name, x in results.items()})
                progress.note(f"step {step}/{schedule.num_steps}  {summary(results)}")
                if results["top1"] > best:
                    best = results["top1"]
                    checkpoints.save_best(step, state, results)
            if saving:
                checkpoints.save(step, state, results)
            if evaluating or saving or step == first + 1:  # compiled in the first
                progress.restart()
            if stopping:
                checkpoints.wait()
                print(
                    f"stopped by {received.name}; step {step} of "
                    f"{schedule.num_steps} is saved in {path}: run the same command "
                    f"to go on"
                )
                raise SystemExit(128 + received)
        checkpoints.wait()
    part = f" since step {first}" if first else ""
    seconds = time.perf_counter() - started
    print(f"finished in {seconds:.0f} s{part}: {summary(results)}")
    _say_where(path)


def _means(window: list[TrainMetrics]) -> Metrics:
    total = reduce(TrainMetrics.merge, jax.device_get(window))
    return {name: float(value) for name, value in total.compute().items()}


def _check_finite(
    window: list[TrainMetrics], step: int, checkpoints: Checkpoints
) -> None:
    """Raise UserError if any step since the last log line went wrong."""
    fetched = jax.device_get(window)
    for at, metrics in enumerate(fetched, start=step - len(window) + 1):
        loss, norm = metrics.loss.total, metrics.param_norm.total
        if not (np.isfinite(loss) and np.isfinite(norm)):
            checkpoints.wait()
            steps = checkpoints.steps()
            good = (
                checkpoints.workdir / "checkpoints" / str(steps[-1]) if steps else None
            )
            raise UserError(
                f"step {at}: loss {loss}, then parameter norm {norm}; the last good "
                f"checkpoint is {good}; lower config.lr_per_256 or set "
                f"config.clip_norm = 1.0, in a new --workdir"
            )


def _check_classes(reader: Reader, eval_reader: Reader) -> None:
    if reader.source.class_names != eval_reader.source.class_names:
        raise UserError(
            f"the training split has {len(reader.source.class_names)} classes, the "
            f"evaluation split {len(eval_reader.source.class_names)} or others; both "
            f"need the same"
        )


def _say_what(
    config: ml_collections.ConfigDict,
    path: Path,
    reader: Reader,
    eval_reader: Reader,
    first: int,
    schedule: setup.Schedule,
    params: dict,
) -> None:
    count = clu.parameter_overview.count_parameters(params)
    overview = clu.parameter_overview.get_parameter_overview(
        params, include_stats=False
    )
    if jax.process_index() == 0:
        (path / "parameters.txt").write_text(overview + "\n")
    begin = f"resuming at step {first}" if first else "training from scratch"
    print(
        f"{begin} in {path}: {config.model.name}, {count:,} parameters, "
        f"{jax.device_count()} {jax.devices()[0].device_kind} device(s) of "
        f"{jax.process_count()} process(es)\n"
        f"{reader.source.num_examples:,} training and "
        f"{eval_reader.source.num_examples:,} test images of "
        f"{len(reader.source.class_names)} classes at {config.model.image_size} px, "
        f"{schedule.num_steps:,} steps of {config.batch_size}",
        flush=True,
    )


def _say_where(path: Path) -> None:
    print(
        f"checkpoints  {path / 'checkpoints'} (newest), {path / 'best'} (best)\n"
        f"metrics      {path / 'metrics.jsonl'}, tensorboard --logdir "
        f"{path / 'tensorboard'}"
    )
