"""Draw what the augmentation of a config does to its training images.

python scripts/show_augmentations.py --config=configs/cifar_nest.py --out=augment.png

The first row holds the images as they are read; then come a row per operation of
RandAugment at the config's magnitude, rows for the other parts alone, and several rows
of the whole recipe.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags

from nest import command
from nest.errors import UserError

CONFIG = command.define_config()
OUT = flags.DEFINE_string("out", "augmentations.png", "The picture to write.")
COLUMNS = flags.DEFINE_integer("images", 8, "Images side by side.", lower_bound=2)
ROWS = flags.DEFINE_integer("rows", 4, "Rows of the whole recipe.", lower_bound=1)
START = flags.DEFINE_integer("start", 0, "Skip so many times --images.", lower_bound=0)
LABEL_WIDTH = 112  # pixels


def main() -> None:
    """Write the picture."""
    import numpy as np
    from PIL import Image, ImageDraw

    rows = draw_rows()
    side = next(iter(rows.values())).shape[1]
    zoom = max(1, 64 // side)
    side *= zoom
    sheet = Image.new("RGB", (LABEL_WIDTH + COLUMNS.value * side, len(rows) * side))
    pen = ImageDraw.Draw(sheet)
    for y, (name, images) in enumerate(rows.items()):
        pen.text((4, y * side + side // 2 - 6), name, fill="white")
        for x, image in enumerate(np.repeat(np.repeat(images, zoom, 1), zoom, 2)):
            sheet.paste(Image.fromarray(image), (LABEL_WIDTH + x * side, y * side))
    try:
        sheet.save(OUT.value)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot write {OUT.value} ({error}); give another --out"
        ) from error
    print(f"{len(rows)} rows of {COLUMNS.value} images: {OUT.value}")


def draw_rows() -> dict:
    """Return uint8 images (COLUMNS, S, S, 3) by the name of their row."""
    import dataclasses

    import jax
    import jax.numpy as jnp
    import numpy as np

    from nest.augment.randaugment import OPERATIONS, apply_operations
    from nest.augment.recipe import augment
    from nest.training import classifier_check, devices, inputs
    from nest.training import classifier_setup as setup

    config = CONFIG.value
    if COLUMNS.value % 2:
        raise UserError(f"--images={COLUMNS.value} is odd, but images mix in pairs")
    count = COLUMNS.value
    with config.unlocked():
        config.batch_size = count
        config.accumulation_steps = 1
    classifier_check.check(config, devices.data_mesh(jax.devices()[:1]))
    reader = inputs.open_split(config, config.data.train_split)
    start = START.value
    batch = next(
        inputs.build_train_batches(config, reader, start=start, stop=start + 1)
    )
    images, labels = jnp.asarray(batch["image"]), jnp.asarray(batch["label"])
    recipe = setup.build_recipe(config)
    off = dataclasses.replace(
        recipe,
        shift=0,
        flip=False,
        randaugment=None,
        color_jitter=None,
        random_erasing=None,
        mix=None,
    )

    def pixels(images: jax.Array) -> np.ndarray:
        scaled = np.asarray(images) * recipe.std + recipe.mean
        return np.clip(np.rint(scaled * 255), 0, 255).astype(np.uint8)

    def run(recipe, key: int) -> np.ndarray:
        out, _ = augment(
            images,
            labels,
            jax.random.fold_in(jax.random.key(config.seed), key),
            recipe,
            num_classes=len(reader.source.class_names),
        )
        return pixels(out)

    rows = {"as read": np.asarray(images)}
    if recipe.randaugment is not None:
        for k, name in enumerate(OPERATIONS):
            signs = jnp.where(jnp.arange(count) % 2, -1.0, 1.0)
            rows[name] = np.asarray(
                apply_operations(
                    images,
                    jnp.full(count, k),
                    jnp.full(count, recipe.randaugment["magnitude"] / 10),
                    signs,
                    recipe.randaugment["strengths"],
                )
            )
    for part in ("randaugment", "color_jitter", "random_erasing", "mix"):
        if getattr(recipe, part) is not None:
            alone = dataclasses.replace(off, **{part: getattr(recipe, part)})
            rows[part] = run(alone, 0)
    for k in range(ROWS.value):
        rows[f"whole recipe {k + 1}"] = run(recipe, k)
    return rows


if __name__ == "__main__":
    command.run(main)
