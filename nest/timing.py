"""What benchmarks share: contenders that take turns, and the memory that one needs."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax


@dataclasses.dataclass
class Contender:
    """Something to time: `run` does one step and returns when it is queued."""

    name: str
    run: Callable[[], None]
    finish: Callable[[], None]
    compile_seconds: float
    peak_bytes: int | None
    best: float = float("inf")

    def time_round(self, steps: int) -> None:
        """Time `steps` steps and keep the best seconds per step."""
        self.finish()
        start = time.perf_counter()
        for _ in range(steps):
            self.run()
        self.finish()
        self.best = min(self.best, (time.perf_counter() - start) / steps)


def take_turns(contenders: Sequence[Contender], *, rounds: int, steps: int) -> None:
    """Time all of them in each of several rounds, after a step of each as a warm-up."""
    for contender in contenders:
        contender.run()
    for _ in range(rounds):
        for contender in contenders:
            contender.time_round(steps)


def timed_compile(lowered: Any) -> tuple[Any, float]:
    """Compile and return the seconds it took."""
    start = time.perf_counter()
    return lowered.compile(), time.perf_counter() - start


def compiled_bytes(compiled: Any) -> int:
    """What XLA allots to one call: arguments, results and temporaries.

    All of it on GPUs. On CPU XLA's fused operations may allot more when they run.
    """
    memory = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )


def call_bytes(compiled: Any, call: Callable[[], Any]) -> int:
    """Return the memory of one call: the arguments and what the call adds at its peak.

    On CPU under Linux it is what the process really grew by, since `compiled_bytes`
    misses what fused operations allot; elsewhere it is `compiled_bytes`.

    Args:
      compiled: what `call` calls.
      call: waits for the result; a call before it took place.
    """
    allotted = compiled_bytes(compiled)
    try:
        if jax.default_backend() != "cpu":
            raise OSError
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _status()["VmRSS"]
        call()
        grown = _status()["VmHWM"] - before
    except OSError:
        call()
        return allotted
    return max(allotted, compiled.memory_analysis().argument_size_in_bytes + grown)


def _status() -> dict[str, int]:
    """Bytes resident in memory (VmRSS) and the most so far (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = (line.split() for line in lines)
    return {
        words[0].rstrip(":"): 1024 * int(words[1])
        for words in fields
        if words and words[0] in ("VmRSS:", "VmHWM:")
    }
