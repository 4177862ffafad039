"""How a command comes to its supervisor."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from percore.errors import PercoreError
from percore.supervisor import client
from percore.supervisor.base import lock
from percore.supervisor.base.home import Home, listen
from percore.supervisor.base.program import Program
from tests.waiting import wait_for


class Slow(Program):
    """A supervisor that sees only after a while that another one has the home."""

    def argv(self, *_: object, **__: object) -> list[str]:
        wait = 'i=0; until [ -e "$0/asked" ] || [ $i = 2000 ]; do i=$((i + 1)); sleep 0.01; done'
        return ["sh", "-c", f'echo $$ >"$0/pid"; {wait}', self.root]


def test_a_supervisor_that_another_one_forestalled_has_ended_before_the_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(str(tmp_path / "home"))
    home.make()
    monkeypatch.setattr(client, "this_program", lambda: Slow(str(tmp_path), "sh"))

    def be_the_other() -> None:
        wait_for(lambda: (tmp_path / "pid").exists(), "the slow one to start")
        held = lock.take(home.lock)
        assert held is not None
        with listen(home.control_socket) as server:
            server.settimeout(10)
            for _ in range(3):  # the command finds us
                server.accept()[0].close()
            (tmp_path / "asked").touch()
            wait_for(lambda: done.is_set(), "the command")
        os.close(held)

    done = threading.Event()
    other = threading.Thread(target=be_the_other)
    other.start()
    try:
        client.ensure_daemon(home)
        assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text().strip()}")
    finally:
        done.set()
        other.join()


@pytest.mark.parametrize(
    ("number", "told"), [(errno.EACCES, "as root: chown -R "), (errno.ENOSPC, "free disk space or set PERCORE_HOME")]
)
def test_a_home_that_cannot_be_used_is_told_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    def refuse(path: str) -> int:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(client, "open_log", refuse)
    with pytest.raises(PercoreError, match="the home of the supervisor cannot be used") as caught:
        client.ensure_daemon(Home(str(tmp_path / "home")))
    assert caught.value.next.startswith(told)
