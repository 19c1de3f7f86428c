"""nest.training.interruption; whole runs are in test_training.py and test_hosts.py."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nest.training import devices
from nest.training.interruption import Interruption, ListeningStep


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_signal_comes_out_of_the_step_it_went_into(two_devices, ahead: int):
    mesh = devices.data_mesh()
    state = jax.device_put(jnp.float32(0), devices.replicated(mesh))
    batch = devices.put_batch({"x": np.ones(4, np.float32)}, mesh)

    def step(state: jax.Array, batch: dict) -> tuple:
        return state + batch["x"].sum(), batch["x"].max()

    heard = []
    with Interruption() as interruption:
        listening = ListeningStep(step, mesh, interruption, ahead=ahead, alone=False)
        for k in range(6):
            if k == 2:
                os.kill(os.getpid(), signal.SIGUSR1)
            state, _ = listening(state, batch)
            heard.append(listening.received())
    assert heard == [None] * (2 + ahead) + [signal.SIGUSR1] * (4 - ahead)
    assert float(state) == 24
