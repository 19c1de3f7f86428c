"""A signal to one process ends the run at the same step on all, with everything saved.

SIGTERM and SIGINT mean that it is over, SIGUSR1 that it may be started again (a cluster
that needs the machine, or a time limit that comes near).
"""

import signal
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

import jax
import numpy as np
from jax.sharding import Mesh

from nest.training import devices, hosts

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Interruption:
    """Within the `with` block the first signal is remembered; a second one acts.

    Attributes:
      received: the signal, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._old: dict[signal.Signals, signal.Handlers] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._old[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


class ListeningStep:
    """A training step that also tells all processes of a signal to one of them.

    The number of the signal goes in beside the batch, and the largest one of all
    processes comes out with the metrics, so they learn of it from the same step and
    need not wait for each other anywhere else. A process alone asks its `Interruption`.

    Args:
      step: of a state, which it consumes, and a global batch; returns a state and
        metrics.
      ahead: so many steps may be under way; the signal is taken from the one before.
    """

    def __init__(
        self,
        step: Callable[[Any, dict], tuple[Any, Any]],
        mesh: Mesh,
        interruption: Interruption,
        *,
        ahead: int,
        alone: bool | None = None,
    ):
        self._alone = jax.process_count() == 1 if alone is None else alone
        self._interruption = interruption
        self._mesh = mesh
        self._numbers: deque[jax.Array] = deque(maxlen=ahead + 1)

        def listening(state: Any, batch: dict, numbers: jax.Array) -> tuple:
            return *step(state, batch), numbers.max()

        self._step = step
        if not self._alone:
            together = jax.jit(
                listening, out_shardings=devices.replicated(mesh), donate_argnums=0
            )
            self._step = hosts.compiled_together(together)

    def __call__(self, state: Any, batch: dict) -> tuple[Any, Any]:
        """Do the step."""
        if self._alone:
            return self._step(state, batch)
        number = self._interruption.received or 0
        numbers = np.full(len(self._mesh.local_devices), number, np.int32)
        numbers = devices.put_batch({"number": numbers}, self._mesh)["number"]
        state, metrics, loudest = self._step(state, batch, numbers)
        self._numbers.append(loudest)
        return state, metrics

    def received(self) -> signal.Signals | None:
        """Return the signal that stops the run now, the same on all processes."""
        if self._alone:
            return self._interruption.received
        number = int(self._numbers[0])
        return signal.Signals(number) if number else None
