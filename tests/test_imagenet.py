"""nest.data.imagenet and scripts/prepare_imagenet.py, on small tars."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from conftest import ROOT
from test_ilsvrc import (
    CLASSES,
    VALIDATION_CLASSES,
    encoded,
    picture,
    train_files,
    validation_files,
    write_train_tar,
    write_validation_tar,
)

from nest.data import imagenet
from nest.data.sources import open_source
from nest.errors import UserError
from nest.lock import lock_folder

LABELS = tfds.builder("imagenet2012").info.features["label"].names
REAL = Path.home() / "tensorflow_datasets" / "imagenet2012" / "5.1.0"
SHARD_BYTES = 2500  # Of the small images two or three fit in.


@pytest.fixture
def tars(tmp_path: Path) -> dict[str, Path]:
    return {
        "train": write_train_tar(tmp_path / "train.tar", train_files()),
        "validation": write_validation_tar(tmp_path / "val.tar", validation_files()),
    }


def prepare(tars: dict[str, Path], data_dir: Path) -> Path:
    return imagenet.prepare(tars, data_dir, num_images=None, shard_bytes=SHARD_BYTES)


def read(data_dir: Path, split: str) -> list[tuple[bytes, int]]:
    source = open_source(
        "tfds", dataset="imagenet2012", data_dir=str(data_dir), split=split
    )
    assert source.class_names == tuple(LABELS)
    return [source.read(i) for i in range(source.num_examples)]


def expected_train() -> list[tuple[bytes, int]]:
    return sorted(
        (image, LABELS.index(wnid))
        for wnid, files in train_files().items()
        for image in files.values()
    )


SCRIPT = str(ROOT / "scripts" / "prepare_imagenet.py")


def run_script(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_image_and_label_is_read_back(tars, tmp_path: Path):
    folder = prepare(tars, tmp_path / "data")
    assert folder == tmp_path / "data" / "imagenet2012" / "5.1.0"
    assert len(list(folder.glob("imagenet2012-train.array_record-*"))) > 2
    assert sorted(read(tmp_path / "data", "train")) == expected_train()
    assert sorted(read(tmp_path / "data", "validation")) == sorted(
        (image, LABELS.index(VALIDATION_CLASSES[int(name[-6]) - 1]))
        for name, image in validation_files().items()
    )
    assert not list(folder.glob("*.part"))


def test_file_names_are_read_back(tars, tmp_path: Path):
    prepare(tars, tmp_path)
    records = tfds.builder("imagenet2012", data_dir=tmp_path).as_data_source("train")
    names = [record["file_name"].decode() for record in records]
    assert sorted(names) == sorted(
        name for files in train_files().values() for name in files
    )
    for record in records:
        assert LABELS[record["label"]] == record["file_name"].decode().split("_")[0]


def test_a_part_of_the_split_has_all_classes(tars, tmp_path: Path):
    prepare(tars, tmp_path)
    labels = {label for _, label in read(tmp_path, "train[:40%]")}
    assert labels == {LABELS.index(wnid) for wnid in CLASSES}


def test_two_runs_write_the_same_bytes(tars, tmp_path: Path):
    one, two = prepare(tars, tmp_path / "1"), prepare(tars, tmp_path / "2")
    assert contents(one) == contents(two)


def test_splits_may_come_one_by_one(tars, tmp_path: Path, capsys):
    prepare({"validation": tars["validation"]}, tmp_path)
    with pytest.raises(UserError, match="has the splits validation; nothing"):
        read(tmp_path, "train")
    before = read(tmp_path, "validation")
    folder = prepare({"train": tars["train"]}, tmp_path)
    assert read(tmp_path, "validation") == before
    assert sorted(read(tmp_path, "train")) == expected_train()

    written = contents(folder)
    tars["train"].unlink()
    capsys.readouterr()
    prepare(tars, tmp_path)
    assert contents(folder) == written
    assert "train is prepared in" in capsys.readouterr().out


def test_a_killed_run_goes_on(tars, tmp_path: Path):
    program = f"""
import itertools, os, signal
from pathlib import Path
from nest.data import imagenet
read_image, calls = imagenet.read_image, itertools.count()
def read_or_die(*arguments):
    if next(calls) == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_image(*arguments)
imagenet.read_image = read_or_die
imagenet.prepare(
    {{"train": Path({str(tars["train"])!r})}}, Path({str(tmp_path)!r}),
    num_images=None, shard_bytes={SHARD_BYTES},
)
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT)
    assert killed.returncode == -9
    folder = tmp_path / "imagenet2012" / "5.1.0"
    finished = {
        path: path.stat().st_mtime_ns for path in folder.glob("*array_record*-of-00005")
    }
    assert 0 < len(finished) < 5
    unfinished = folder / "imagenet2012-train.array_record-00004-of-00005.part"
    unfinished.write_bytes(b"begun")
    with pytest.raises(UserError, match="imagenet2012 is not prepared in"):
        read(tmp_path, "train")

    prepare({"train": tars["train"]}, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert sorted(read(tmp_path, "train")) == expected_train()
    whole = prepare({"train": tars["train"]}, tmp_path / "whole")
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize("damage", ["cut", "zeros", "another"])
def test_a_damaged_shard_is_written_again(damage, tars, tmp_path: Path):
    folder = prepare({"train": tars["train"]}, tmp_path)
    whole = contents(folder)
    (folder / "dataset_info.json").unlink()
    first, second = sorted(folder.glob("*array_record*"))[:2]
    content = {
        "cut": whole[first.name][:-100],
        "zeros": bytes(len(whole[first.name])),
        "another": whole[second.name],
    }[damage]
    first.write_bytes(content)
    prepare({"train": tars["train"]}, tmp_path)
    assert contents(folder) == whole


def test_an_error_in_the_middle_leaves_whole_shards_only(tars, tmp_path: Path):
    files = train_files()
    good = files[CLASSES[2]][f"{CLASSES[2]}_4.JPEG"]
    files[CLASSES[2]][f"{CLASSES[2]}_4.JPEG"] = good[:-10] + bytes(10)
    write_train_tar(tars["train"], files)
    with pytest.raises(UserError, match=f"{CLASSES[2]}.tar/{CLASSES[2]}_4.JPEG in"):
        prepare(tars, tmp_path)
    folder = tmp_path / "imagenet2012" / "5.1.0"
    assert not list(folder.glob("*.part")) and not list(folder.glob("*.json"))

    write_train_tar(tars["train"], train_files())
    prepare(tars, tmp_path)
    assert sorted(read(tmp_path, "train")) == expected_train()


def test_shards_of_another_preparation_are_kept_and_named(tars, tmp_path: Path):
    folder = prepare({"train": tars["train"]}, tmp_path)
    (folder / "dataset_info.json").unlink()
    with pytest.raises(UserError, match=r"holds imagenet2012-train\.array_record-0"):
        imagenet.prepare({"train": tars["train"]}, tmp_path, num_images=None)
    assert len(list(folder.glob("*array_record*"))) > 2


def test_another_file_format_is_refused(tars, tmp_path: Path):
    folder = prepare({"validation": tars["validation"]}, tmp_path)
    info = json.loads((folder / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="in another format than array_record"):
        prepare(tars, tmp_path)


def test_too_little_room_is_said_before_writing(tars, tmp_path: Path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(imagenet.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"room for 0\.000 GB, train needs"):
        prepare(tars, tmp_path)
    assert not list((tmp_path / "imagenet2012" / "5.1.0").glob("*array_record*"))


def test_a_second_run_is_kept_out(tars, tmp_path: Path):
    folder = tmp_path / "imagenet2012" / "5.1.0"
    with (
        lock_folder(folder, option="--data_dir"),
        pytest.raises(UserError, match="another run is writing to"),
    ):
        prepare(tars, tmp_path)


def test_the_script_prepares_what_is_there(tars, tmp_path: Path):
    completed = run_script(
        f"--train_tar={tars['train']}",
        f"--validation_tar={tars['validation']}",
        f"--data_dir={tmp_path}",
        "--allow_incomplete",
    )
    assert (completed.returncode, completed.stderr) == (0, "")
    assert completed.stdout.splitlines() == [
        "train: 15 images in 1 shards",
        "validation: 3 images in 1 shards",
        f"ready for --config.data.data_dir={tmp_path}",
    ]
    assert sorted(read(tmp_path, "train")) == expected_train()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --train_tar, --validation_tar or both"),
        (["--train_tar={validation}"], "is it ILSVRC2012_img_train.tar?"),
        (["--train_tar={train}", "--data_dir=/proc/none"], "/proc/none/imagenet2012"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, tars, tmp_path: Path):
    completed = run_script(
        f"--data_dir={tmp_path / 'data'}", *[text.format(**tars) for text in arguments]
    )
    assert completed.returncode == 1
    assert len(completed.stderr.splitlines()) == 1, completed.stderr
    assert completed.stderr.startswith("prepare_imagenet.py: ")
    assert message in completed.stderr


def test_a_failing_disk_is_one_line(tmp_path: Path):
    """A limit on the size of files makes the system refuse to write, as a full disk."""
    noise = {
        f"ILSVRC2012_val_{i:08}.JPEG": encoded(picture(i)) + bytes(range(256)) * 400
        for i in (1, 2, 3)
    }
    tar = write_validation_tar(tmp_path / "val.tar", noise)
    program = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    arguments = (f"--validation_tar={tar}", f"--data_dir={tmp_path}")
    completed = subprocess.run(
        [sys.executable, "-c", program, SCRIPT, *arguments, "--allow_incomplete"],
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 1
    assert len(completed.stderr.splitlines()) == 1, completed.stderr
    assert "(write() failed: File too large); finished shards stay" in completed.stderr
    folder = tmp_path / "imagenet2012" / "5.1.0"
    assert not list(folder.glob("*array_record*"))


@pytest.mark.skipif(not REAL.exists(), reason="no ImageNet on this machine")
def test_the_directory_is_like_one_of_tfds(tars, tmp_path: Path):
    folder = prepare(tars, tmp_path)
    for name in ("features.json", "label.labels.txt"):
        ours, theirs = (folder / name).read_text(), (REAL / name).read_text()
        if name.endswith("json"):
            ours, theirs = json.loads(ours), json.loads(theirs)
        assert ours == theirs
    ours = json.loads((folder / "dataset_info.json").read_text())
    theirs = json.loads((REAL / "dataset_info.json").read_text())
    assert ours.keys() >= theirs.keys()
    for name in ("fileFormat", "name", "supervisedKeys", "version"):
        assert ours[name] == theirs[name]
    for split in theirs["splits"]:
        same = [each for each in ours["splits"] if each["name"] == split["name"]]
        assert same[0].keys() == split.keys()
        assert same[0]["filepathTemplate"] == split["filepathTemplate"]
