"""The roll call: every process keeps a line to process 0, which tells how all stand.

JAX's runtime ends a process from C++, with a stack trace, when another does not come or
dies. Over these lines (plain TCP, one JSON value a line) it is known first, by name.
"""

import contextlib
import itertools
import json
import os
import queue
import selectors
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from nest.errors import UserError

ENDED = 1  # exit status of a process that ends because of another
GO_ON = "run the same command everywhere to go on from what was saved"


class _Line:
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
        except ValueError:
            return None
        return messages if all(isinstance(x, dict) for x in messages) else None

    def silent_for(self) -> float:
        """Return the seconds since something was heard."""
        return time.monotonic() - self.heard


class _Switchboard(threading.Thread):
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
        self._lines = {0: _Line(own)}
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
                        line = _Line(self._server.accept()[0])
                        selector.register(line.connection, selectors.EVENT_READ, line)
                    elif not self._hear(key.data):
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
                self._look_around()
                if time.monotonic() - spoken > self._timeout / 6:
                    spoken = time.monotonic()
                    self._tell(alive=True)
            for key in list(selector.get_map().values()):
                key.fileobj.close()

    def _hear(self, line: _Line) -> bool:
        """Take what came over a line; False when it is to be closed."""
        messages = line.receive()
        index = next((i for i, other in self._lines.items() if other is line), None)
        if messages is None:
            self._hung_up(index)
            return False
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

    def _admit(self, line: _Line, message: dict) -> int | None:
        index, count, name = message["hello"], message["count"], message["name"]
        if self._verdict is not None:
            line.send(end=self._verdict)
            return None
        if count != self._count:
            problem = (
                f"process {index} ({name}) was started as one of {count} processes, "
                f"process 0 as one of {self._count}; give all the same --num_processes"
            )
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


class RollCall:
    """This process's end of its line to process 0.

    Args:
      address: host of process 0 and port of the roll call.
      index, count: which of how many processes this is.
      arrival: seconds within which all have to come.
      timeout: seconds of silence after which a process counts as lost.

    Attributes:
      index: see above.
      names: host and process id of each process.

    Raises:
      UserError: the port is in use, or not all processes come.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        index: int,
        count: int,
        arrival: float,
        timeout: float,
    ):
        self.index, self._timeout = index, timeout
        self._where = f"{address[0]}:{address[1]}"
        self._ending = threading.Lock()
        self._left = False
        self._answers: queue.Queue[list] = queue.Queue()
        self._turns = itertools.count()
        self._switchboard = None
        name = f"{socket.gethostname()}, pid {os.getpid()}"
        deadline = time.monotonic() + arrival
        if index == 0:
            server = listen(address[1])
            ours, theirs = socket.socketpair()
            self._switchboard = _Switchboard(
                server,
                theirs,
                name=name,
                count=count,
                arrival=arrival,
                timeout=timeout,
            )
            self._switchboard.start()
            self._line = _Line(ours)
        else:
            self._line = _Line(self._connect(address, deadline, arrival))
            self._line.send(hello=index, count=count, name=name)
        try:
            self.names, self._early = self._await_names(deadline)
        except UserError:
            self._line.connection.close()
            self._linger()
            raise
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        threading.Thread(target=self._speak, daemon=True).start()

    def gather(self, value: Any) -> list:
        """Return the values (JSON) of all processes, in their order; all must call."""
        self._line.send(value=value, turn=next(self._turns))
        return self._answers.get()

    def fail(self, reason: str) -> None:
        """Tell all others why this process ends; does not return if another was first.

        Returns when the others have heard of it; the process has to end then.
        """
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()
        self._line.send(failed=reason)
        self._linger()

    def leave(self) -> None:
        """End in peace: from now on nobody misses this process."""
        self._left = True
        self._line.send(bye=True)
        with contextlib.suppress(OSError):
            self._line.connection.shutdown(socket.SHUT_WR)
        self._listener.join(5)
        self._line.connection.close()
        self._linger()

    def _connect(
        self, address: tuple[str, int], deadline: float, arrival: float
    ) -> socket.socket:
        while True:
            try:
                return socket.create_connection(address, timeout=5)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"process 0 did not answer at {self._where} within "
                        f"{arrival:g} s ({error.strerror or error}); start it, and let "
                        f"this machine reach its port"
                    ) from error
                time.sleep(0.3)

    def _await_names(self, deadline: float) -> tuple[list[str], list[dict]]:
        """Return the names and the messages that came with them."""
        # Process 0 gives up first, and says who did not come.
        while time.monotonic() < deadline + 10:
            messages = self._line.receive()
            if messages is None:
                break
            for at, message in enumerate(messages):
                if "end" in message:
                    raise UserError(message["end"])
                if "names" in message:
                    return message["names"], messages[at + 1 :]
        raise UserError(
            f"what answers at {self._where} is not process 0 of this run, or it ended "
            f"before all had come; look at its output, or give another port"
        )

    def _listen(self) -> None:
        messages = self._early
        while True:
            if self._left:
                if messages is None:
                    return
                messages = self._line.receive()
                continue
            for message in messages or ():
                if "end" in message:
                    self._end(message["end"])
                elif "all" in message:
                    self._answers.put(message["all"])
            zero = f"process 0 ({self.names[0]})"
            if messages is None:
                self._end(f"{zero} died or its connection broke; {GO_ON}")
            if self._line.silent_for() > self._timeout:
                self._end(
                    f"{zero} has been silent for {self._timeout:g} s: its machine or "
                    f"network is gone, or it hangs; {GO_ON}"
                )
            messages = self._line.receive()

    def _speak(self) -> None:
        while not self._left:
            self._line.send(alive=True)
            time.sleep(self._timeout / 6)

    def _end(self, verdict: str) -> NoReturn:
        """End this process, whatever it is doing."""
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()
        sys.stdout.flush()
        print(f"{Path(sys.argv[0]).name}: {verdict}", file=sys.stderr, flush=True)
        self._linger()
        os._exit(ENDED)

    def _linger(self) -> None:
        """Process 0 stays until the others have gone: JAX's service is in it."""
        if self._switchboard is not None:
            self._switchboard.join(5)


def listen(port: int) -> socket.socket:
    """Open a port to the other hosts.

    Raises:
      UserError: it is in use.
    """
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=dual)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise UserError(
            f"cannot open port {port} on {socket.gethostname()} ({reason}); end the "
            f"run that uses it or give another port in --coordinator"
        ) from error
