"""Make the ImageNet directory that configs/imagenet_nest.py reads of the two tars.

python scripts/prepare_imagenet.py --train_tar=TRAIN.tar --validation_tar=VALIDATION.tar

The tars are ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar of
https://image-net.org/download-images. An interrupted run goes on where it stopped when
the same command is given again.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags

from nest import command
from nest.errors import UserError

TARS = {
    "train": flags.DEFINE_string("train_tar", None, "ILSVRC2012_img_train.tar."),
    "validation": flags.DEFINE_string("validation_tar", None, "ILSVRC2012_img_val.tar"),
}
DATA_DIR = flags.DEFINE_string(
    "data_dir", "~/tensorflow_datasets", "Gets imagenet2012/5.1.0, about 145 GB."
)
ALLOW_INCOMPLETE = flags.DEFINE_boolean(
    "allow_incomplete", False, "Prepare what is there, whatever the number of images."
)


def main() -> None:
    """Prepare the splits whose tars are given."""
    from nest.data.ilsvrc import NUM_IMAGES
    from nest.data.imagenet import prepare

    tars = {
        split: Path(flag.value).expanduser()
        for split, flag in TARS.items()
        if flag.value
    }
    if not tars:
        raise UserError("give --train_tar, --validation_tar or both")
    try:
        folder = prepare(
            tars,
            Path(DATA_DIR.value).expanduser(),
            num_images=None if ALLOW_INCOMPLETE.value else NUM_IMAGES,
        )
    except KeyboardInterrupt:
        raise UserError(
            "interrupted; finished shards stay, the same command goes on from there"
        ) from None
    print(f"ready for --config.data.data_dir={folder.parent.parent}")


if __name__ == "__main__":
    command.run(main)
