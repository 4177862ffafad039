"""Who listens on a port: told by name, unless it belongs to percore."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys

import pytest

from percore.host.ports import find_owners, ports_of
from tests.waiting import free_port, wait_for

LISTENER = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_another_program_is_named_and_a_worker_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert find_owners([port, 1])[str(port)].endswith(f"(pid {os.getpid()})")
    assert find_owners([port]) == {}
    port = free_port()
    ours = subprocess.Popen([sys.executable, "-c", LISTENER, str(port)], env={**os.environ, "PERCORE_HOME": "/x"})
    try:
        wait_for(lambda: answers(port), "the worker")
        assert find_owners([port]) == {}
    finally:
        ours.kill()
        ours.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_process_of_another_user_that_says_it_is_a_worker_is_another_program() -> None:
    port = free_port()
    environment = {**os.environ, "PERCORE_HOME": "/x"}
    theirs = subprocess.Popen(["/usr/bin/python3", "-c", LISTENER, str(port)], env=environment, user="nobody")
    try:
        wait_for(lambda: answers(port), "the stranger")
        assert find_owners([port]) == {str(port): f"python3 (pid {theirs.pid})"}
        assert find_owners([port], user=pwd.getpwnam("nobody").pw_uid) == {}
        assert find_owners([port], user=0) == {}  # a supervisor of root has workers of other users
    finally:
        theirs.kill()
        theirs.wait()


def test_the_ports_of_a_program_are_those_that_its_children_listen_on_too() -> None:
    port = free_port()
    assert ports_of([os.getpid()]).isdisjoint({port})
    shell = subprocess.Popen(
        ["/bin/sh", "-c", f'{sys.executable} -c "{LISTENER}" {port}; true'], start_new_session=True
    )
    try:
        wait_for(lambda: answers(port), "the listener")
        assert ports_of([shell.pid]) == {port}
        assert ports_of([]) == set()
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
