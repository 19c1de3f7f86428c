"""Measure what feeds the accelerator, alone, beside the usual other ways to do it.

python scripts/benchmark_input.py --config=configs/imagenet_nest.py

Decoding: random resized crops of the config's training images, on one thread, beside
tf.data (where TensorFlow is installed) and torchvision's transforms on Pillow (where
torchvision is). Contenders take turns, the best of several rounds counts. Then whole
batches as training gets them, and what the augmentation adds to a training step.
"""

import io
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags

from nest import command

CONFIG = command.define_config()
ROUNDS = flags.DEFINE_integer("rounds", 5, "Best of so many.", lower_bound=1)
IMAGES = flags.DEFINE_integer("images", 400, "Decoded a round.", lower_bound=1)
BATCHES = flags.DEFINE_integer("batches", 50, "Batches a round.", lower_bound=1)
STEP_BATCH = flags.DEFINE_integer(
    "step_batch_size",
    16,
    "Of the training step that augmentation is compared with.",
    lower_bound=2,
)


def main() -> None:
    """Measure everything and print the tables."""
    import jax
    import numpy as np

    from nest.training import classifier_check, devices, inputs

    config = CONFIG.value
    mesh = devices.data_mesh()
    classifier_check.check(config, mesh)
    devices.check_batch_size("step_batch_size", STEP_BATCH.value, mesh, parts=2)
    reader = inputs.open_split(config, config.data.train_split)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__} on "
        f"{jax.devices()[0].device_kind}; best of {ROUNDS.value}\n"
    )
    count = min(IMAGES.value, reader.source.num_examples)
    examples = [reader.source.read(i)[0] for i in range(count)]
    if all(isinstance(image, bytes) for image in examples):
        size = config.model.image_size
        pixels = np.mean([_sides(image) for image in examples], axis=0)
        print(
            f"decode, random resized crop to {size}, one thread; {count} files of "
            f"{pixels[0]:.0f} x {pixels[1]:.0f} pixels on average\n"
        )
        repeats = -(-IMAGES.value // count)
        contenders = decoders(config, examples * repeats)
        speeds = race({name: (f, count * repeats) for name, f in contenders.items()})
        print_speeds(speeds)

    print(f"\nbatches of {config.batch_size} to the device, as training gets them\n")
    if config.data.in_memory:
        print_speeds({"in memory": batches_per_second(config, 1)})
    else:
        threads = sorted({1, os.cpu_count()})
        print_speeds({f"threads={n}": batches_per_second(config, n) for n in threads})

    print(
        f"\naugmentation in a training step of {STEP_BATCH.value}, {config.model.name}"
    )
    augmentation(config, len(reader.source.class_names))


def race(contenders: dict[str, tuple[Callable[[], None], int]]) -> dict[str, float]:
    """Images/s of each contender, taking turns; the warm-up does not count."""
    best = dict.fromkeys(contenders, float("inf"))
    for round_number in range(ROUNDS.value + 1):
        for name, (run, _) in contenders.items():
            start = time.perf_counter()
            run()
            if round_number:
                best[name] = min(best[name], time.perf_counter() - start)
    return {name: count / best[name] for name, (_, count) in contenders.items()}


def print_speeds(speeds: dict[str, float]) -> None:
    """Print a line per contender with its ratio to the first."""
    first = next(iter(speeds.values()))
    for name, speed in speeds.items():
        print(f"{name:44s} {speed:10,.0f} images/s   {first / speed:5.2f}x")


def _sides(image: bytes) -> tuple[int, int]:
    from nest.data.images import open_picture

    picture = open_picture(image)
    return picture.width, picture.height


def decoders(config, examples: list[bytes]) -> dict[str, Callable[[], None]]:
    """This project's way and those that are installed, each over all examples."""
    import numpy as np

    from nest.data.images import open_picture, random_resized_crop

    size, data = config.model.image_size, config.data

    def ours() -> None:
        rng = np.random.default_rng(0)
        for image in examples:
            random_resized_crop(
                open_picture(image),
                size,
                rng,
                area=data.crop_area,
                aspect=data.crop_aspect,
            )

    contenders = {"this project": ours}
    try:
        import tensorflow as tf
    except ImportError:
        pass
    else:
        contenders["tf.data, decode_and_crop_jpeg, resize"] = by_tf(
            tf, config, examples
        )
    try:
        from torchvision import transforms
    except ImportError:
        pass
    else:
        from PIL import Image

        crop = transforms.RandomResizedCrop(size, data.crop_area, data.crop_aspect)

        def torchvision() -> None:
            for image in examples:
                np.asarray(crop(Image.open(io.BytesIO(image)).convert("RGB")))

        contenders["torchvision RandomResizedCrop on Pillow"] = torchvision
    return contenders


def by_tf(tf, config, examples: list[bytes]) -> Callable[[], None]:
    """The same crops by tf.data on one thread."""
    size, data = config.model.image_size, config.data

    def crop(image):
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(image),
            tf.zeros([0, 0, 4]),
            seed=(0, 0),
            min_object_covered=0,
            area_range=data.crop_area,
            aspect_ratio_range=data.crop_aspect,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], extent[:2]], axis=0)
        pixels = tf.image.decode_and_crop_jpeg(image, window, channels=3)
        return tf.cast(tf.image.resize(pixels, (size, size)), tf.uint8)

    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    dataset = tf.data.Dataset.from_tensor_slices(examples)
    dataset = dataset.map(crop, num_parallel_calls=1).with_options(options)

    def run() -> None:
        for _ in dataset:
            pass

    return run


def batches_per_second(config, threads: int) -> float:
    """Images/s of whole batches that reach the device."""
    import jax

    from nest.training import devices, inputs

    with config.unlocked():
        config.data.threads = threads
    reader = inputs.open_split(config, config.data.train_split)
    mesh = devices.data_mesh()
    ahead = 2 * threads + 1  # as many as may be ready before the clock starts
    stop = ahead + ROUNDS.value * BATCHES.value + ahead
    batches = inputs.build_train_batches(config, reader, start=0, stop=stop)

    def take(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            jax.block_until_ready(devices.put_batch(next(batches), mesh))
        return time.perf_counter() - start

    take(ahead)
    best = min(take(BATCHES.value) for _ in range(ROUNDS.value))
    return BATCHES.value * config.batch_size / best


def augmentation(config, num_classes: int) -> None:
    """Time the jitted recipe alone and the whole training step around it."""
    from functools import partial

    import jax
    import numpy as np

    from nest.augment.recipe import augment
    from nest.training import classifier_setup as setup
    from nest.training import devices

    mesh = devices.data_mesh()
    optimizer = setup.build_optimizer(config, lambda step: 1e-4)
    graphdef, state = setup.build_state(
        config, optimizer, mesh, num_classes=num_classes
    )
    step = setup.build_train_step(
        config, graphdef, optimizer, mesh, num_classes=num_classes
    )
    rng = np.random.default_rng(0)
    side, count = config.model.image_size, STEP_BATCH.value
    batch = devices.put_batch(
        {
            "image": rng.integers(0, 256, (count, side, side, 3), np.uint8),
            "label": rng.integers(0, num_classes, count).astype(np.int32),
        },
        mesh,
    )
    recipe = jax.jit(
        partial(augment, recipe=setup.build_recipe(config), num_classes=num_classes)
    )
    key = jax.random.key(0)
    last = {"state": state}

    def run_recipe() -> None:
        jax.block_until_ready(recipe(batch["image"], batch["label"], key))

    def run_step() -> None:
        last["state"], _ = step(last["state"], batch)
        jax.block_until_ready(last["state"])

    speeds = race({"recipe": (run_recipe, count), "step": (run_step, count)})
    share = speeds["step"] / speeds["recipe"]
    print(
        f"\nstep {1e3 / speeds['step']:.3f} ms an image, of it the recipe "
        f"{1e3 / speeds['recipe']:.3f} ms ({share:.1%})"
    )


if __name__ == "__main__":
    command.run(main)
