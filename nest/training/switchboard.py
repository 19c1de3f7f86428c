"""The roll call's switchboard: process 0's end of the lines to all processes."""

import contextlib
import json
import selectors
import socket
import threading
import time
from typing import Any

GO_ON = "run the same command everywhere to go on from what was saved"


class Line:
    """One end of a connection."""

    def __init__(self, connection: socket.socket):
        connection.settimeout(2)
        self.connection = connection
        self.heard = time.monotonic()
        self._rest = b""
        self._sending = threading.Lock()

    def send(self, **message: Any) -> None:
        """Send; that the other end is gone is noticed by whoever reads."""
        with self._sending, contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict] | None:
        """Return the messages that have come, or None when the other end is gone."""
        try:
            received = self.connection.recv(1 << 16)
        except TimeoutError:
            return []
        except OSError:
            return None
        if not received:
            return None
        self.heard = time.monotonic()
        *lines, self._rest = (self._rest + received).split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except (RecursionError, ValueError):
            return None
        return messages if all(isinstance(x, dict) for x in messages) else None

    def silent_for(self) -> float:
        """Return the seconds since something was heard."""
        return time.monotonic() - self.heard


class Switchboard(threading.Thread):
    """Process 0's end of all lines."""

    def __init__(
        self,
        server: socket.socket,
        own: socket.socket,
        *,
        name: str,
        count: int,
        arrival: float,
        timeout: float,
    ):
        super().__init__(daemon=True, name="roll call")
        self._server, self._count, self._timeout = server, count, timeout
        self._deadline = time.monotonic() + arrival
        self._arrival = arrival
        self._lines = {0: Line(own)}
        self._names = {0: name}
        self._left: set[int] = set()
        self._values: dict[int, dict[int, Any]] = {}
        self._verdict: str | None = None
        self._all_here = False
        self.drained = threading.Event()  # all others have hung up

    def run(self) -> None:
        spoken = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            own = self._lines[0]
            selector.register(own.connection, selectors.EVENT_READ, own)
            while not self.drained.is_set():
                for key, _ in selector.select(timeout=0.2):
                    if key.fileobj is self._server:
                        self._answer(selector)
                    elif not self._hear(key.data):
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
                self._look_around()
                if time.monotonic() - spoken > self._timeout / 6:
                    spoken = time.monotonic()
                    self._tell(alive=True)
            for key in list(selector.get_map().values()):
                key.fileobj.close()

    def _answer(self, selector: selectors.BaseSelector) -> None:
        try:
            line = Line(self._server.accept()[0])
        except OSError:  # The caller has hung up, or too many files are open.
            time.sleep(0.1)
            return
        selector.register(line.connection, selectors.EVENT_READ, line)

    def _hear(self, line: Line) -> bool:
        """Take what came over a line; False when it is to be closed."""
        messages = line.receive()
        try:
            if messages is not None:
                return self._take(line, messages)
        except (KeyError, TypeError):
            pass  # Not the language of this program.
        self._hung_up(self._index(line))
        return False

    def _index(self, line: Line) -> int | None:
        return next((i for i, other in self._lines.items() if other is line), None)

    def _take(self, line: Line, messages: list[dict]) -> bool:
        index = self._index(line)
        for message in messages:
            if "hello" in message:
                index = self._admit(line, message)
                if index is None:
                    return False
            elif index is None:
                return False  # Not one of ours.
            elif "value" in message:
                values = self._values.setdefault(message["turn"], {})
                values[index] = message["value"]
                if len(values) == self._count:
                    del self._values[message["turn"]]
                    self._tell(all=[values[i] for i in range(self._count)])
            elif "failed" in message:
                self._end(f"{self._called(index)} ended: {message['failed']}", index)
            elif "bye" in message:
                self._left.add(index)
        return True

    def _admit(self, line: Line, message: dict) -> int | None:
        index, count, name = message["hello"], message["count"], message["name"]
        if not (type(index) is type(count) is int and isinstance(name, str)):
            return None
        if self._verdict is not None:
            line.send(end=self._verdict)
            return None
        if count != self._count:
            problem = (
                f"process {index} ({name}) was started as one of {count} processes, "
                f"process 0 as one of {self._count}; give all the same --num_processes"
            )
        elif not 0 <= index < count:
            return None
        elif index in self._lines:
            problem = (
                f"two processes say that they are process {index}: "
                f"{self._names[index]} and {name}; give each its own --process_id, and "
                f"each run its own port"
            )
        else:
            self._lines[index], self._names[index] = line, name
            if len(self._lines) == self._count:
                self._all_here = True
                self._tell(names=[self._names[i] for i in range(self._count)])
            return index
        line.send(end=problem)
        if not self._all_here:  # Else it is a stranger, of no concern to this run.
            self._end(problem)
        return None

    def _hung_up(self, index: int | None) -> None:
        if index is None:
            return
        name = self._called(index)
        del self._lines[index]
        if index not in self._left:
            self._end(f"{name} died or its connection broke; {GO_ON}")
        if not self._lines or (self._verdict is not None and self._others_left()):
            self.drained.set()

    def _others_left(self) -> bool:
        return not self._lines.keys() - {0}

    def _look_around(self) -> None:
        """Miss those who have not come, and those of whom nothing is heard."""
        if self._verdict is not None:
            return
        if not self._all_here and time.monotonic() > self._deadline:
            missing = [i for i in range(self._count) if i not in self._lines]
            self._end(
                f"process {', '.join(map(str, missing))} of {self._count} did not come "
                f"within {self._arrival:g} s; start the same command on every host "
                f"(TPU pod: --worker=all, SLURM: srun)"
            )
        for index, line in self._lines.items():
            if line.silent_for() > self._timeout and index not in self._left:
                self._end(
                    f"{self._called(index)} has been silent for {self._timeout:g} s: "
                    f"its machine or network is gone, or it hangs; {GO_ON}"
                )
                return

    def _called(self, index: int) -> str:
        return f"process {index} ({self._names[index]})"

    def _end(self, verdict: str, source: int | None = None) -> None:
        """Tell all but the source why everything ends; the first reason counts."""
        if self._verdict is not None:
            return
        self._verdict = verdict
        for index, line in self._lines.items():
            if index != source:
                line.send(end=verdict)
        if self._others_left():
            self.drained.set()

    def _tell(self, **message: Any) -> None:
        for line in self._lines.values():
            line.send(**message)
