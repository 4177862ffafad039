"""What all parts share: files, /proc, the control connection, and who is at the other end of a socket."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from percore.common import control, pidfd, procfs
from percore.common.files import write_file
from percore.common.socket_peers import peer_of
from tests.waiting import wait_for


def test_a_file_is_replaced_whole_with_its_mode_and_a_failed_write_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_file(str(path), b"one", mode=0o640)
    with pytest.raises(OSError, match="state") as caught:
        write_file(str(path / "below"), b"two")
    assert caught.value.filename == str(path / "below")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"one", 0o640)
    assert os.listdir(tmp_path) == ["state"]


def test_what_a_killed_writer_left_unfinished_is_overwritten_and_a_link_in_its_place_is_not_followed(
    tmp_path: Path,
) -> None:
    path, left = tmp_path / "state", tmp_path / "state.new"
    left.write_text("a longer text of before")
    write_file(str(path), b"new", is_alone=True)
    assert (path.read_bytes(), left.exists()) == (b"new", False)
    left.symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        write_file(str(path), b"newer", is_alone=True)
    assert not (tmp_path / "victim").exists()
    assert path.read_bytes() == b"new"


def test_the_holder_of_a_listening_socket_is_found_by_its_inode() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port, inode = server.getsockname()[1], os.fstat(server.fileno()).st_ino
        with socket.create_connection(("127.0.0.1", port)):
            [found] = [each for each in procfs.net_sockets("tcp") if each.inode == inode]
            assert (found.state, found.port, found.queue) == (procfs.LISTEN, port, 1)
        assert (os.getpid(), inode) in list(procfs.holders_of([inode]))
        assert procfs.sockets_of(os.getpid())[inode] == server.fileno()


def test_of_a_process_that_is_gone_nothing_is_told() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert procfs.name_of(gone.pid) == ""
    assert procfs.command_line_of(gone.pid) == b""
    assert (procfs.start_time_of(gone.pid), procfs.uids_of(gone.pid)) == (0, set())


def test_a_process_is_killed_only_while_it_is_the_one_that_was_meant() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        pidfd.kill(child.pid, lambda: False)
        assert child.poll() is None
        pidfd.kill(child.pid, lambda: True)
        wait_for(lambda: child.poll() == -signal.SIGKILL, "its end")
        pidfd.kill(child.pid, lambda: True)  # it is gone
    finally:
        child.kill()
        child.wait()


def test_lines_of_an_answer_come_whole_however_they_are_cut() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = control.Connection(ours, longest=10)
        connection.send("ping", now=True)
        assert control.decode(theirs.recv(1000)) == {"version": control.VERSION, "op": "ping", "now": True}
        theirs.sendall(b"on")
        assert connection.receive() == []
        assert connection.is_cut_off
        theirs.sendall(b"e\ntwo\nth")
        assert connection.receive() == [b"one", b"two"]
        theirs.sendall(b"ree, which is too long")
        with pytest.raises(ValueError, match="longer than 10 bytes"):
            connection.receive()
        theirs.shutdown(socket.SHUT_WR)
        assert connection.receive() is None


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours) == (os.getpid(), os.geteuid(), os.getegid())
