"""nest.data.pipeline."""

from itertools import islice

import numpy as np
import pytest

from nest.data.pipeline import EvalBatches, Host, example_indices, train_batches
from nest.data.sources import Source
from nest.errors import UserError


def source(num_examples: int = 10) -> Source:
    """Images that hold their index in every pixel."""
    return Source(
        read=lambda i: (np.full((6, 6, 3), i, np.uint8), i % 3),
        num_examples=num_examples,
        class_names=("a", "b", "c"),
    )


ALONE = Host(0, 1)


def batches(host: Host = ALONE, start: int = 0, **overrides) -> list[dict]:
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
    return list(train_batches(source(), **arguments | overrides))


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
        source(),
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


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("hosts", [1, 2])
def test_evaluation_sees_every_example_once(in_memory: bool, hosts: int):
    seen = []
    for i in range(hosts):
        passes = EvalBatches(
            source(),
            size=6,
            batch_size=4,
            host=Host(i, hosts),
            in_memory=in_memory,
            eval_crop=1.0,
        )
        assert len(passes) == 3
        for batch in passes:
            assert len(batch["image"]) == 4 // hosts  # filled up
            seen += list(batch["image"][batch["mask"], 0, 0, 0])
    assert sorted(seen) == list(range(10))


def test_an_unreadable_image_is_named():
    broken = Source(read=lambda i: (b"no image", 0), num_examples=3, class_names=("a",))
    with pytest.raises(UserError, match="example 0 is not a readable image"):
        EvalBatches(
            broken,
            size=6,
            batch_size=3,
            host=ALONE,
            in_memory=True,
            eval_crop=1.0,
        )
