"""Processes that a test starts, on ports that are free."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator

PATIENCE = 240  # seconds, for a machine that does much else


def free_port() -> int:
    """A port that is free, and the next one, too."""
    while True:
        with socket.create_server(("", 0)) as server:
            port = server.getsockname()[1]
        with (
            contextlib.suppress(OSError, OverflowError),
            socket.create_server(("", port + 1)),
        ):
            return port


@contextlib.contextmanager
def killed_at_the_end(processes: list[subprocess.Popen]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()
