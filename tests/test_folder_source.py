"""nest.data.sources.folder."""

from pathlib import Path

import pytest

from nest.data.sources import Source, open_source
from nest.errors import UserError


def fill(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(name.encode())


def opened(root: Path, split: str, holdout: float = 0.0) -> Source:
    return open_source(
        "folder", dataset="", data_dir=str(root), split=split, holdout=holdout
    )


def contents(source: Source) -> dict[bytes, str]:
    examples = map(source.read, range(source.num_examples))
    return {image: source.class_names[label] for image, label in examples}


@pytest.fixture
def split_root(tmp_path: Path) -> Path:
    fill(tmp_path / "train" / "dog", ["d1.jpg", "d2.JPEG", ".hidden.jpg", "notes.txt"])
    fill(tmp_path / "train" / "cat" / "deeper", ["c1.png"])
    fill(tmp_path / "val" / "dog", ["d3.webp"])
    return tmp_path


def test_classes_are_folders_and_splits_share_them(split_root: Path):
    train, val = opened(split_root, "train"), opened(split_root, "val")
    assert train.class_names == val.class_names == ("cat", "dog")
    assert contents(train) == {b"d1.jpg": "dog", b"d2.JPEG": "dog", b"c1.png": "cat"}
    assert contents(val) == {b"d3.webp": "dog"}
    assert train.describe(0) == str(split_root / "train" / "cat" / "deeper" / "c1.png")


def test_a_share_of_every_class_is_held_out(tmp_path: Path):
    for name in ("a", "b"):
        fill(tmp_path / name, [f"{name}{i}.png" for i in range(200)])
    train, test = (opened(tmp_path, split, 0.2) for split in ("train", "test"))
    assert not contents(train).keys() & contents(test).keys()
    assert train.num_examples + test.num_examples == 400
    # Four standard deviations of 400 draws.
    assert abs(test.num_examples / 400 - 0.2) < 4 * (0.16 / 400) ** 0.5
    held_out = contents(test)
    (tmp_path / "a" / "new.png").touch()
    assert held_out.items() <= contents(opened(tmp_path, "test", 0.2)).items()


def test_the_smallest_class_is_in_both_splits(tmp_path: Path):
    for name in ("a", "b", "c", "d"):
        fill(tmp_path / name, [f"{name}1.png", f"{name}2.png"])
    for holdout in (0.01, 0.5, 0.9):
        for split in ("train", "test"):
            found = contents(opened(tmp_path, split, holdout))
            assert sorted(found.values()) == ["a", "b", "c", "d"]


def test_a_class_called_train_is_a_class(tmp_path: Path):
    for name in ("car", "train"):
        fill(tmp_path / name, [f"{name}{i}.png" for i in range(9)])
    (tmp_path / "car" / "folder.jpg").mkdir()
    for split in ("train", "test"):
        source = opened(tmp_path, split, 0.2)
        assert source.class_names == ("car", "train")
        assert set(contents(source).values()) == {"car", "train"}


def message(root: Path, split: str = "train", holdout: float = 0.0) -> str:
    with pytest.raises(UserError) as error:
        opened(root, split, holdout)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_wrong_is_named(tmp_path: Path, split_root: Path):
    assert "has the splits train, val, not 'test'" in message(split_root, "test")
    assert "no folder" in message(tmp_path / "nowhere")
    assert "has no folders in it" in message(split_root / "val" / "dog")
    assert "set --config.data.holdout=0.1" in message(split_root / "train", "test")
    assert "has the splits 'train' and 'test'" in message(
        split_root / "train", "val", 0.5
    )
    assert "holds a single image" in message(split_root / "train", "train", 0.5)
    (split_root / "train" / "fish").mkdir()
    assert "fish holds no image" in message(split_root)
    fill(split_root / "val" / "horse", ["h.png"])
    (split_root / "train" / "fish").rmdir()
    assert "has no folder for the class(es) horse" in message(split_root)
