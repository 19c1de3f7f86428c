"""nest.training.devices."""

import jax
import numpy as np
import pytest

from nest.errors import UserError
from nest.training.devices import check_batch_size, data_mesh, put_batch


def test_a_batch_is_cut_across_the_devices(two_devices):
    rows = np.arange(12).reshape(4, 3)
    array = put_batch({"label": rows}, data_mesh())["label"]
    np.testing.assert_array_equal(array, rows)
    shards = {
        shard.device: np.asarray(shard.data) for shard in array.addressable_shards
    }
    np.testing.assert_array_equal(shards[two_devices[0]], rows[:2])
    np.testing.assert_array_equal(shards[two_devices[1]], rows[2:])


def test_the_mesh_holds_all_devices(two_devices):
    assert list(data_mesh().devices) == two_devices == jax.devices()


@pytest.mark.parametrize(
    ("batch_size", "parts", "message"),
    [
        (7, 1, r"= 7 is not divisible by 2 devices; the next that is: 8"),
        (6, 2, r"= 6 is not divisible by 2 devices x 2 accumulation steps; .* 8"),
        (0, 1, r"= 0 is not divisible by 2 devices; the next that is: 2"),
    ],
)
def test_a_batch_that_does_not_divide_is_refused(batch_size, parts, message):
    with pytest.raises(UserError, match=message):
        check_batch_size("batch_size", batch_size, data_mesh(), parts)


def test_a_batch_that_divides_is_taken():
    check_batch_size("batch_size", 8, data_mesh(), 4)
