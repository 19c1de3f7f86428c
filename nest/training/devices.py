"""One program over all devices: batches are sharded, the state is replicated.

This is what `jax.pmap` was for; since JAX 0.8 pmap itself is implemented this way. The
mesh has one axis, `data`; `jax.jit` inserts the all-reduce of the gradient.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from nest.errors import UserError


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Lay devices (default: all, of all hosts) along one axis `data`.

    They stay in the order of the processes, and so do the rows of a batch: what a row
    draws does not depend on how many hosts share the batch.
    """
    if devices is None:
        devices = sorted(jax.devices(), key=lambda x: (x.process_index, x.id))
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of the state: a full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its first axis is cut across the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Form the global batch from each host's share of it."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, rows)
        for name, rows in batch.items()
    }


def put_everywhere(tree: Any, mesh: Mesh) -> Any:
    """Copy arrays, which are the same in every process, to all devices of all.

    Nobody waits for another: `jax.device_put` would compare the processes' arrays.
    """
    everywhere = replicated(mesh)
    if jax.process_count() == 1:
        return jax.device_put(tree, everywhere)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(everywhere, x, x.shape),
        jax.device_get(tree),
    )


def check_batch_size(field: str, batch_size: int, mesh: Mesh, parts: int = 1) -> None:
    """Raise UserError unless every device gets the same number of rows of each part.

    Args:
      field: name of the config field, for the message.
      parts: gradient accumulation steps that share the batch.
    """
    unit = mesh.size * parts
    if batch_size > 0 and batch_size % unit == 0:
        return
    above = max(1, -(-batch_size // unit)) * unit
    by = f"{mesh.size} devices" + (
        f" x {parts} accumulation steps" if parts > 1 else ""
    )
    raise UserError(
        f"config.{field} = {batch_size} is not divisible by {by}; the next that is: "
        f"{above}"
    )
