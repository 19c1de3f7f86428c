"""nest.data.pipeline."""

from itertools import islice

import numpy as np
import pytest

from nest.data.pipeline import EvalBatches, Host, example_indices, train_batches
from nest.data.reader import Reader
from nest.data.sources import Source
from nest.errors import UserError


def reader(broken: tuple[int, ...] = ()) -> Reader:
    """Ten images that hold their index in every pixel."""
    source = Source(
        read=lambda i: (
            b"" if i in broken else np.full((6, 6, 3), i, np.uint8),
            i % 3,
        ),
        num_examples=10,
        class_names=("a", "b", "c"),
        describe=lambda i: f"example {i}",
    )
    return Reader(source, skip_corrupt=True)


ALONE = Host(0, 1)


def batches(
    host: Host = ALONE, start: int = 0, broken: tuple = (), **overrides
) -> list[dict]:
    arguments = dict(
        size=6,
        batch_size=4,
        start_step=start,
        num_steps=8,
        seed=0,
        host=host,
        in_memory=True,
        eval_crop=1.0,
        crop_area=(0.3, 1.0),
        crop_aspect=(0.75, 4 / 3),
        threads=2,
    )
    return list(train_batches(reader(broken), **arguments | overrides))


def assert_equal(left: list[dict], right: list[dict]) -> None:
    assert len(left) == len(right) > 0
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_every_epoch_is_a_permutation_of_its_own():
    order = example_indices(np.arange(40), 10, seed=0).reshape(4, 10)
    for epoch in order:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(10))
    assert len({tuple(epoch) for epoch in order}) == 4


def test_the_seed_sets_the_order():
    first, second = (example_indices(np.arange(10), 10, seed=i) for i in (0, 1))
    assert (first != second).any()
    np.testing.assert_array_equal(first, example_indices(np.arange(10), 10, seed=0))


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_later_start_gives_the_same_batches(in_memory: bool):
    assert_equal(
        batches(in_memory=in_memory)[3:], batches(in_memory=in_memory, start=3)
    )


@pytest.mark.parametrize("in_memory", [True, False])
def test_hosts_share_the_global_batch(in_memory: bool):
    whole = batches(in_memory=in_memory)
    shares = [batches(Host(i, 2), in_memory=in_memory) for i in (0, 1)]
    joined = [
        {name: np.concatenate([a[name], b[name]]) for name in a}
        for a, b in zip(*shares, strict=True)
    ]
    assert_equal(joined, whole)


def test_the_number_of_threads_changes_nothing():
    assert_equal(
        batches(in_memory=False, threads=1), batches(in_memory=False, threads=3)
    )


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_come_with_their_labels(in_memory: bool):
    for batch in batches(in_memory=in_memory):
        assert batch["image"].shape == (4, 6, 6, 3)
        assert batch["image"].dtype == np.uint8 and batch["label"].dtype == np.int32
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0] % 3, batch["label"])


def test_disk_and_memory_follow_the_same_order():
    for disk, memory in zip(batches(in_memory=False), batches(), strict=True):
        np.testing.assert_array_equal(disk["label"], memory["label"])


def test_a_stream_can_be_left_early():
    stream = train_batches(
        reader(),
        size=6,
        batch_size=4,
        start_step=0,
        num_steps=1000,
        seed=0,
        host=ALONE,
        in_memory=False,
        eval_crop=1.0,
        crop_area=(0.3, 1.0),
        crop_aspect=(0.75, 4 / 3),
        threads=2,
    )
    assert len(list(islice(stream, 2))) == 2
    stream.close()


def eval_batches(host: Host, broken: tuple = (), **overrides) -> EvalBatches:
    arguments = dict(size=6, batch_size=4, eval_crop=1.0, in_memory=True, threads=2)
    return EvalBatches(reader(broken), host=host, **arguments | overrides)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("hosts", [1, 2])
def test_evaluation_sees_every_example_once(in_memory: bool, hosts: int):
    seen = []
    for i in range(hosts):
        passes = eval_batches(Host(i, hosts), in_memory=in_memory)
        assert len(passes) == 3
        for _ in range(2):
            pixels = []
            for batch in passes:
                assert len(batch["image"]) == 4 // hosts  # filled up
                pixels += list(batch["image"][batch["mask"], 0, 0, 0])
        seen += pixels
    assert sorted(seen) == list(range(10))


def test_evaluation_can_be_left_early():
    assert len(list(islice(eval_batches(ALONE, in_memory=False), 1))) == 1


@pytest.mark.parametrize("in_memory", [True, False])
def test_evaluation_leaves_unreadable_images_out(in_memory: bool):
    passes = eval_batches(ALONE, broken=(0, 5), in_memory=in_memory)
    seen = [x for b in passes for x in b["image"][b["mask"], 0, 0, 0]]
    assert sorted(seen) == [1, 2, 3, 4, 6, 7, 8, 9]


@pytest.mark.parametrize("in_memory", [True, False])
def test_training_replaces_unreadable_images_by_the_next(in_memory: bool):
    whole = batches(in_memory=in_memory)
    broken = batches(in_memory=in_memory, broken=(3, 4, 9))
    replaced = {3: 5, 4: 5, 9: 0}
    for a, b in zip(whole, broken, strict=True):
        before = a["image"][:, 0, 0, 0]
        expected = [replaced.get(int(i), int(i)) for i in before]
        np.testing.assert_array_equal(b["image"][:, 0, 0, 0], expected)
        np.testing.assert_array_equal(b["label"], np.array(expected) % 3)


def test_nothing_readable_and_too_much_for_the_memory_are_errors():
    with pytest.raises(UserError, match="not a single image of this split"):
        batches(broken=tuple(range(10)))
    with pytest.raises(UserError, match=r"GiB in memory.*in_memory=False"):
        batches(size=10**6)
