"""nest.training.rollcall."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ROOT
from processes import PATIENCE, free_port, killed_at_the_end

from nest.errors import UserError
from nest.training.rollcall import RollCall, listen
from nest.training.switchboard import Line, Switchboard


def call(port: int, index: int, count: int, arrival: float = 10) -> RollCall:
    return RollCall(
        ("localhost", port), index=index, count=count, arrival=arrival, timeout=10
    )


def in_threads(calls: list[Callable]) -> list:
    """Call at once; an error takes the place of a result."""

    def caught(function: Callable) -> object:
        try:
            return function()
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(caught, calls))


def test_all_who_come_learn_of_each_other_and_gather():
    port = free_port()

    def one(index: int) -> tuple:
        roll = call(port, index, 3)
        found = [roll.gather({"from": index}), roll.gather(index**2)]
        roll.leave()
        return roll.names, found

    for names, found in in_threads([lambda i=i: one(i) for i in range(3)]):
        assert names == [f"{socket.gethostname()}, pid {os.getpid()}"] * 3
        assert found == [[{"from": 0}, {"from": 1}, {"from": 2}], [0, 1, 4]]


def test_who_does_not_come_is_named():
    port = free_port()
    some = [lambda: call(port, 0, 4, arrival=1), lambda: call(port, 2, 4, arrival=1)]
    for message in in_threads(some):
        assert message.startswith("process 1, 3 of 4 did not come within 1 s; start")
    with pytest.raises(UserError, match=r"process 0 did not answer at .* within 1 s"):
        call(free_port(), 1, 2, arrival=1)


def test_counts_that_disagree_are_named():
    port = free_port()
    for message in in_threads([lambda: call(port, 0, 2), lambda: call(port, 1, 3)]):
        assert "was started as one of 3 processes, process 0 as one of 2" in message


def test_a_number_taken_twice_is_named():
    port = free_port()
    indices = (0, 1, 1)
    for message in in_threads([lambda i=i: call(port, i, 3) for i in indices]):
        assert message.startswith("two processes say that they are process 1: ")


def test_a_port_in_use_is_named():
    port = free_port()
    message = rf"cannot open port {port} on .* \(Address already in use\); end"
    with listen(port), pytest.raises(UserError, match=message):
        call(port, 0, 2)


STRANGE = (
    b"GET / HTTP/1.1\r\n\r",
    b"[" * 9999,
    b'{"hello": 1}',
    b'{"hello": [1], "count": 2, "name": "x"}',
    b'{"hello": 1, "count": 2, "name": null}',
    b'{"hello": -1, "count": 2, "name": "x"}',
    b'{"hello": 2, "count": 2, "name": "x"}',
    b'{"value": 1}',
)


def test_a_stranger_on_the_port_does_no_harm():
    port = free_port()

    def say(line: bytes) -> None:
        for _ in range(50):
            with contextlib.suppress(OSError):
                with socket.create_connection(("localhost", port)) as connection:
                    connection.sendall(line + b"\n")
                return
            time.sleep(0.1)

    def stranger() -> None:
        for line in STRANGE:
            say(line)

    def one(index: int) -> list:
        time.sleep(index)
        roll = call(port, index, 2)
        found = roll.gather(index)
        roll.leave()
        return found

    found = in_threads([stranger, lambda: one(0), lambda: one(1)])
    assert found == [None, [0, 1], [0, 1]]


@pytest.mark.parametrize("line", [b'{"value": 1}', b'{"value": 1, "turn": []}'])
def test_a_process_that_talks_nonsense_is_named(line: bytes):
    server = listen(free_port())
    ours, theirs = socket.socketpair()
    board = Switchboard(server, theirs, name="zero", count=2, arrival=10, timeout=10)
    board.start()
    with ours, socket.create_connection(server.getsockname()[:2]) as one:
        one.sendall(b'{"hello": 1, "count": 2, "name": "one"}\n' + line + b"\n")
        heard, own = [], Line(ours)
        while own.silent_for() < 9 and not any("end" in message for message in heard):
            heard += own.receive()
        assert heard[-1].get("end", "").startswith("process 1 (one) died or its")
    board.join(10)
    assert not board.is_alive()


MEMBER = """
import sys, threading, time
from nest.errors import UserError
from nest.training.rollcall import RollCall
index, port = int(sys.argv[1]), int(sys.argv[2])
roll = RollCall(("localhost", port), index=index, count=2, arrival=120, timeout=4)
print("here", flush=True)
if len(sys.argv) > 3:
    sys.stdin.readline()
    roll.fail(sys.argv[3])
    sys.exit(7)
time.sleep(200)
"""


@pytest.mark.parametrize(
    ("lost", "what", "message"),
    [
        (1, signal.SIGKILL, "died or its connection broke"),
        (0, signal.SIGKILL, "died or its connection broke"),
        (1, signal.SIGSTOP, "has been silent for 4 s"),
        (0, None, "ended: no disk"),
    ],
)
def test_the_others_end_and_name_the_lost_one(lost: int, what, message: str):
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEMBER, str(index), str(port)]
            + (["no disk"] if what is None and index == lost else []),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    with killed_at_the_end(processes):
        for process in processes:
            assert process.stdout.readline() == "here\n"
        if what is None:
            processes[lost].stdin.write("now\n")
            processes[lost].stdin.flush()
        else:
            processes[lost].send_signal(what)
        for index, process in enumerate(processes):
            if index == lost:
                continue
            process.wait(PATIENCE)
            lines = process.stderr.read().splitlines()
            assert process.returncode == 1
            assert len(lines) == 1, lines
            assert f"process {lost} ({socket.gethostname()}, pid" in lines[0]
            assert message in lines[0]
        if what is None:
            assert processes[lost].wait(PATIENCE) == 7
