"""Sockets out of the workers that hold them, while those workers are busy and the rest of the group goes away."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from percore.common.procfs import sockets_of, start_time_of
from percore.supervisor.config.address import Address
from percore.supervisor.state.rescue import rescue_listening

# Holds the socket it was given while descriptors below that one come and go, as those of a busy server's clients do.
BUSY = """
import os, select, sys
os.dup2(int(sys.argv[1]), 60)
print(os.getpid(), flush=True)
while not select.select([0], [], [], 0)[0]:
    for descriptor in [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]:
        os.close(descriptor)
"""
EACH_ONE = """
import os, sys
pids = []
for mine in map(int, sys.argv[1:]):
    pids.append(os.fork())
    if pids[-1] == 0:
        for other in map(int, sys.argv[1:]):
            if other != mine:
                os.close(other)
        sys.stdin.read()
        os._exit(0)
print(*pids, flush=True)
for pid in pids:
    os.waitpid(pid, 0)
"""


def group(stack: contextlib.ExitStack, count: int, port: int = 0) -> list[socket.socket]:
    made: list[socket.socket] = []
    for _ in range(count):
        sock = stack.enter_context(socket.socket())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen()
        port = sock.getsockname()[1]
        made.append(sock)
    return made


@contextlib.contextmanager
def holding(program: str, socks: list[socket.socket]) -> Iterator[list[int]]:
    """The pids that the program tells when all of its processes have their sockets; they live until its input ends."""
    numbers = [sock.fileno() for sock in socks]
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program, *map(str, numbers)],
        pass_fds=numbers, stdout=subprocess.PIPE, stdin=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout
        yield [int(word) for word in process.stdout.readline().split()]


def test_a_worker_that_closes_connections_meanwhile_does_not_hide_its_listening_socket() -> None:
    with contextlib.ExitStack() as stack:
        socks = group(stack, 1)
        [pid] = stack.enter_context(holding(BUSY, socks))
        inode = os.fstat(socks[0].fileno()).st_ino
        assert all(inode in sockets_of(pid) for _ in range(500))


@pytest.mark.skipif(os.geteuid() != 0, reason="takes sockets out of another process")
def test_sockets_that_close_meanwhile_do_not_hide_those_of_living_workers() -> None:
    """The unused half of a group goes with its supervisor, while the next one asks the kernel for the rest."""
    with contextlib.ExitStack() as stack:
        used = group(stack, 64)
        address = Address(socket.AF_INET, socket.SOCK_STREAM, *used[0].getsockname())
        pids = stack.enter_context(holding(EACH_ONE, used))
        workers = [(pid, start_time_of(pid), place) for place, pid in enumerate(pids)]
        for _ in range(60):
            unused = group(stack, 64, address.port)
            closing = threading.Thread(target=lambda unused=unused: [sock.close() for sock in unused])
            closing.start()
            found = rescue_listening(address, workers)
            closing.join()
            for sock in found.values():
                sock.close()
            assert len(found) == len(workers)
