"""What the bind shim does to the answers of a program whose listening socket is marked as draining."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.supervisor.config.address import Address
from percore.supervisor.sockets import listener as listener_module
from percore.supervisor.sockets.listener import Listener
from percore.supervisor.sockets.sharing import Mode
from percore.supervisor.sockets.worker_sockets import mark
from tests.waiting import free_port

SHIM = Path(listener_module.__file__).with_name(f"bindshim-{os.uname().machine}.so")
pytestmark = pytest.mark.skipif(not SHIM.exists(), reason="the bind shim is not built")

# Does what each line that comes over a connection says, and tells on its standard output what the calls returned.
SERVER = """
import os, socket, sys
def all_of(connection, text):
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    left = text
    while left:
        try: left = left[connection.send(left):]
        except BlockingIOError: __import__('select').select([], [connection], [])
    return len(text)
listener = socket.socket()
listener.bind(('127.0.0.1', int(sys.argv[1])))
listener.listen()
while True:
    connection, _ = listener.accept()
    while line := connection.recv(65536):
        print(*eval(line.decode(), {'c': connection, 'fd': connection.fileno(), **globals()}), flush=True)
"""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
TOLD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"


class Program:
    """A server with the shim in it, and the supervisor that it asks for its listening socket: this test."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._listener = Listener(Address(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", self.port), 1, Mode.STEERED)
        self._broker = socket.socket(socket.AF_UNIX)
        self._broker.bind(str(folder / "w.sock"))
        self._broker.listen()
        threading.Thread(target=self._hand_out, daemon=True).start()
        env = {"LD_PRELOAD": str(SHIM), "PERCORE_SOCKET": str(folder / "w.sock"), "PERCORE_TOKEN": "t"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(self.port)], env=env, stdout=subprocess.PIPE, text=True
        )
        self._connection = self._connect()

    def _hand_out(self) -> None:
        while True:
            try:
                connection, _ = self._broker.accept()
            except OSError:
                return
            with connection, contextlib.suppress(ConnectionError):  # the program may have ended meanwhile
                if connection.recv(4096).startswith(b"bind"):
                    socket.send_fds(connection, [b"take\n"], [self._listener.socket_for(0, 0).fileno()])
                else:
                    connection.sendall(b"done\n")

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def connect_anew(self) -> None:
        self._connection.close()
        self._connection = self._connect()

    def mark(self, *, drains: bool) -> None:
        mark(self._listener.socket_for(0, 0), drains=drains)

    def does(self, code: str) -> tuple[bytes, list[int]]:
        """What the client gets, with the calls' own counts."""
        self._connection.sendall(f"({code},)".encode())
        assert self._process.stdout
        counts = [int(word) for word in self._process.stdout.readline().split()]
        self._connection.setblocking(False)
        got = self._connection.recv(1 << 20)
        self._connection.settimeout(10)
        return got, counts

    def sends_a_lot(self, text: bytes) -> bytes:
        self._connection.sendall(f"(all_of(c, {text[:100]!r} + b'x' * {len(text) - 100}),)".encode())
        got = bytearray()
        while len(got) < len(text) + len(TOLD) - len(HEAD):
            got += self._connection.recv(1 << 20)
        return bytes(got)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._connection.close()
        self._broker.close()
        self._listener.close()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path)
    yield made
    made.close()


WAYS = {
    "send": "c.send({0}+{1})",
    "sendto": "c.send({0}+{1}, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)",
    "sendmsg": "c.sendmsg([{0}, {1}])",
    "write": "os.write(fd, {0}+{1})",
    "writev": "os.writev(fd, [{0}, {1}])",
}


def test_each_way_of_writing_is_seen_and_returns_what_the_program_gave(program: Program) -> None:
    for way in WAYS.values():
        code = way.format(HEAD, b"hi")
        program.mark(drains=False)
        assert program.does(code) == (HEAD + b"hi", [len(HEAD) + 2])
        program.mark(drains=True)
        assert program.does(code) == (TOLD + b"hi", [len(HEAD) + 2]), way


def test_what_an_answer_says_of_its_connection_decides_what_becomes_of_it(program: Program) -> None:
    program.mark(drains=True)
    ok, old = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\nA: b\r\n"
    close = b"Connection: close\r\n"
    for head, wanted in {
        ok + b"connection:  Keep-Alive\r\n\r\n": ok + b"connection:       close\r\n\r\n",
        old + b"Connection: keep-alive\r\n\r\n": old + b"Connection:      close\r\n\r\n",
        old + b"\r\n": old + b"\r\n",
        ok + b"CONNECTION: close\r\n\r\n": ok + b"CONNECTION: close\r\n\r\n",
        ok + b"Connection: Upgrade\r\n\r\n": ok + b"Connection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 Up\r\nA: b\r\n\r\n": b"HTTP/1.1 101 Up\r\nA: b\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n": b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 None\r\n\r\n": b"HTTP/1.1 204 None\r\n" + close + b"\r\n",
        ok: ok + close,
        ok[:-2]: ok[:-2],
        ok + b"\r\nConnection: keep-alive\r\n": ok + close + b"\r\nConnection: keep-alive\r\n",  # of the body
    }.items():
        assert program.does(f"c.send({head})") == (wanted, [len(head)])


def test_a_body_that_begins_as_an_answer_does_is_left_alone(program: Program) -> None:
    program.mark(drains=True)
    assert program.does(f"c.send({HEAD}), c.send({HEAD})") == (TOLD + HEAD, [len(HEAD)] * 2)
    program.connect_anew()  # a request of the same length
    assert program.does(f"c.send({HEAD}), c.send({HEAD})") == (TOLD + HEAD, [len(HEAD)] * 2)


def test_what_is_no_connection_of_the_shared_port_is_left_alone(program: Program) -> None:
    program.mark(drains=True)
    code = f"(lambda a, b: (a.send({HEAD}), c.send(b'%d' % len(b.recv(999)))))(*socket.socketpair())[1]"
    assert program.does(code) == (b"%d" % len(HEAD), [2])


def test_an_answer_that_the_kernel_takes_in_parts_arrives_whole(program: Program) -> None:
    program.mark(drains=True)
    text = HEAD.ljust(100, b"y") + b"x" * 500_000
    assert program.sends_a_lot(text) == TOLD + text[len(HEAD) :]
