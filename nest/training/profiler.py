"""A profiler trace of a range of steps, on request."""

from pathlib import Path
from typing import Any

import jax


class Profiler:
    """Traces the steps first .. last (both included) into `folder`.

    A run that resumes between them, or ends before `last`, traces the steps it does.

    Args:
      steps: (first, last); (0, 0) traces nothing.
    """

    def __init__(self, folder: Path, steps: tuple[int, int]):
        self._folder = folder
        self._first, self._last = steps
        self._tracing = False

    def before(self, step: int) -> None:
        """Begin the trace if `step` is the first one of it."""
        if not self._tracing and self._first <= step <= self._last:
            jax.profiler.start_trace(str(self._folder))
            self._tracing = True

    def after(self, step: int, output: Any) -> None:
        """End the trace after the last step of it, once its `output` is there."""
        if self._tracing and step == self._last:
            jax.block_until_ready(output)
            self.stop()

    def stop(self) -> None:
        """End the trace if there is one and say where it is."""
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing = False
            print(f"profiler trace: {self._folder}")
