"""The roll call: every process keeps a line to process 0, which tells how all stand.

JAX's runtime ends a process from C++, with a stack trace, when another does not come or
dies. Over these lines (plain TCP, one JSON value a line) it is known first, by name.
"""

import contextlib
import itertools
import os
import queue
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from nest.errors import UserError
from nest.training.switchboard import GO_ON, Line, Switchboard

ENDED = 1  # exit status of a process that ends because of another


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
            self._switchboard = Switchboard(
                server,
                theirs,
                name=name,
                count=count,
                arrival=arrival,
                timeout=timeout,
            )
            self._switchboard.start()
            self._line = Line(ours)
        else:
            self._line = Line(self._connect(address, deadline, arrival))
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
