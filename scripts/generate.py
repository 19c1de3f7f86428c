"""Generate images with a trained generator.

python scripts/generate.py --workdir=runs/digits_generator --num=64 --out=samples.png
python scripts/generate.py --workdir=runs/digits_generator --num=50000 --out=samples.npz
python scripts/generate.py --workdir=runs/digits_generator --num=64 --out=samples/
python scripts/generate.py --workdir=runs/digits_generator --interpolate=3,14,15

Image i belongs to the seed --seed + i (or to the i-th of --seeds) and to nothing else.
"""

import itertools
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from absl import flags
from PIL import Image

from nest import command
from nest.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", None, "A run of a GAN.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "latest or a step.")
NUM = flags.DEFINE_integer("num", 64, "Images.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of the first image.", lower_bound=0)
SEEDS = flags.DEFINE_list("seeds", None, "One image each, in the place of --num.")
INTERPOLATE = flags.DEFINE_list(
    "interpolate", None, "Seeds: a strip that goes from each to the next."
)
STEPS = flags.DEFINE_integer(
    "steps", 8, "Images from one seed of --interpolate to the next.", lower_bound=2
)
TRUNCATION = flags.DEFINE_float(
    "truncation", 0.0, "Noise outside +- this is redrawn; 0 is off.", lower_bound=0
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images at a time.", lower_bound=1)
OUT = flags.DEFINE_string(
    "out", "samples.png", "A grid (.png), all images (.npz, uint8) or a folder of PNGs."
)


def main() -> None:
    """Generate, write, and say how fast."""
    from nest.generation.loading import load_generator
    from nest.generation.sampling import enlarge, grid

    out = Path(OUT.value)
    is_file = _check(out)
    seeds = _seeds()
    if not is_file:
        out.mkdir(parents=True, exist_ok=True)
    generator = load_generator(Path(WORKDIR.value), CHECKPOINT.value)
    noise, columns = _noise(seeds, generator.noise_size)
    batch_size = min(BATCH_SIZE.value, len(noise))
    next(generator.sample(noise[:batch_size], batch_size=batch_size))  # compiles
    begin = time.perf_counter()
    images = np.concatenate(list(generator.sample(noise, batch_size=batch_size)))
    speed = len(images) / (time.perf_counter() - begin)
    if out.suffix.lower() == ".png":
        picture = enlarge(grid(images, columns=columns), 512)
        Image.fromarray(picture).save(out)
    elif out.suffix.lower() == ".npz":
        np.savez(out, images=images)
    else:
        for seed, image in zip(seeds, images, strict=True):
            Image.fromarray(image).save(out / f"seed{seed:06}.png")
    print(
        f"{len(images)} images of step {generator.step} in {out}, {speed:.1f} images/s"
    )


def _check(out: Path) -> bool:
    """Tell whether `out` is a file, not a folder; raise UserError for bad flags."""
    if not WORKDIR.value:
        raise UserError("give the run of a GAN: --workdir=runs/digits_generator")
    if SEEDS.value and INTERPOLATE.value:
        raise UserError("give either --seeds or --interpolate")
    is_file = out.suffix.lower() in (".png", ".npz")
    if is_file and not out.parent.is_dir():
        raise UserError(f"--out={out}: there is no folder {out.parent}; make it first")
    if is_file and out.is_dir():
        raise UserError(f"--out={out} is a folder; give another name")
    if not is_file and out.exists() and not out.is_dir():
        raise UserError(f"--out={out} is a file; use FILE.png, FILE.npz or a folder")
    if is_file and not os.access(out if out.exists() else out.parent or ".", os.W_OK):
        raise UserError(f"--out={out} cannot be written; give another place")
    if INTERPOLATE.value and not is_file:
        raise UserError("--interpolate makes a strip; give --out=FILE.png or FILE.npz")
    if not is_file and SEEDS.value and len(set(SEEDS.value)) < len(SEEDS.value):
        raise UserError("--seeds has one twice, but a folder gets a file for each seed")
    return is_file


def _seeds() -> list[int]:
    """The seeds of the images or, in a strip, of its corners."""
    if SEEDS.value:
        return _integers("seeds", SEEDS.value)
    if INTERPOLATE.value:
        seeds = _integers("interpolate", INTERPOLATE.value)
        if len(seeds) < 2:
            raise UserError("--interpolate needs two seeds or more, such as 3,14,15")
        return seeds
    last = SEED.value + NUM.value
    if last > 2**32:
        raise UserError(f"--seed + --num = {last}; seeds are below 2**32")
    return list(range(SEED.value, last))


def _noise(seeds: list[int], size: int) -> tuple[np.ndarray, int | None]:
    """The noise of every image, and the columns of the grid where they are given."""
    from nest.generation.sampling import interpolate, noise_of_seeds

    noise = noise_of_seeds(seeds, size, truncation=TRUNCATION.value)
    if not INTERPOLATE.value:
        return noise, None
    rows = [interpolate(*ends, STEPS.value) for ends in itertools.pairwise(noise)]
    return np.concatenate(rows), STEPS.value


def _integers(flag: str, values: list[str]) -> list[int]:
    if not all(value.strip().isdigit() and int(value) < 2**32 for value in values):
        raise UserError(f"--{flag}={','.join(values)}: give seeds from 0 to 2**32 - 1")
    return [int(value) for value in values]


if __name__ == "__main__":
    command.run(main)
