"""A profiler trace of a range of steps, on request."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax


class Profiler:
    """Traces the steps first .. last (both included) into `folder`.

    Args:
      steps: (first, last); (0, 0) traces nothing.
    """

    def __init__(self, folder: Path, steps: tuple[int, int]):
        self._folder = folder
        self._first, self._last = steps
        self._tracing = False

    @contextlib.contextmanager
    def step(self, step: int) -> Iterator[None]:
        """Surround one training step."""
        if step == self._first:
            jax.profiler.start_trace(str(self._folder))
            self._tracing = True
        yield
        if self._tracing and step == self._last:
            jax.profiler.stop_trace()
            self._tracing = False
            print(f"profiler trace of steps {self._first}..{step}: {self._folder}")
