"""Speed of a run and the live line that shows it."""

import sys
import time
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


class Progress:
    """Times the steps between two log lines and prints the line.

    Args:
      num_steps: the last step of the run.
      batch_size: images per step.
    """

    def __init__(self, *, num_steps: int, batch_size: int):
        self._num_steps = num_steps
        self._batch_size = batch_size
        self._live = sys.stdout.isatty()
        self._left_open = False
        self._windows = 0
        self._window_seconds = 0.0
        self._warned = False
        self.restart()

    def restart(self) -> None:
        """Begin a window: what lay before it (evaluation, say) does not count."""
        self._start = time.perf_counter()
        self._waited = 0.0
        self._steps = 0

    def timed(self, batches: Iterator[T]) -> Iterator[T]:
        """Yield from `batches`, counting steps and the time spent waiting for them."""
        while True:
            before = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._waited += time.perf_counter() - before
            self._steps += 1
            yield batch

    def window(self) -> dict[str, float]:
        """Return images/s and the share of time spent waiting; begin a new window."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        self._window_seconds = seconds
        figures = {
            "images_per_second": self._steps * self._batch_size / seconds,
            "input_wait_share": self._waited / seconds,
        }
        self.restart()
        return figures

    def warn_of_waiting(self, share: float, mend: str) -> None:
        """Say once on standard error that more than 10 % of the time went by waiting.

        The first window does not count, since the input is only starting, nor does one
        of less than 5 seconds.
        """
        self._windows += 1
        lasting = self._windows > 1 and self._window_seconds >= 5
        if share > 0.1 and lasting and not self._warned:
            self._warned = True
            self._close_line()
            print(
                f"warning: {share:.0%} of the time is spent waiting for input; {mend}",
                file=sys.stderr,
                flush=True,
            )

    def show(self, step: int, loss: float, images_per_second: float) -> None:
        """Print the line; on a terminal it overwrites itself."""
        left = (
            (self._num_steps - step) * self._batch_size / max(images_per_second, 1e-9)
        )
        line = (
            f"step {step}/{self._num_steps}  loss {loss:.4f}  "
            f"{images_per_second:.1f} images/s  ETA {_clock(left)}"
        )
        if self._live:
            print(f"\r\x1b[K{line}", end="", flush=True)
            self._left_open = True
        else:
            print(line, flush=True)

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self._close_line()
        print(text, flush=True)

    def _close_line(self) -> None:
        if self._left_open:
            print(flush=True)
            self._left_open = False


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
