"""The lock of apt: real processes hold it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from percore.errors import RolloutError
from percore.host.resources import apt

HOLDER = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/locks is Linux's")


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "lock-frontend"
    path.touch()
    monkeypatch.setattr(apt, "LOCKS", (str(path),))
    return path


def hold(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_free_lock_is_not_waited_for(lock: Path) -> None:
    said: list[str] = []
    apt.wait_for_lock(said.append, seconds=0)
    assert said == []


def test_whoever_holds_it_is_named_once_and_waited_for(lock: Path) -> None:
    said: list[str] = []
    with hold(lock) as holder:
        waiting = threading.Thread(target=apt.wait_for_lock, args=(said.append,))
        waiting.start()
        while not said:
            assert waiting.is_alive()
        holder.communicate()
        waiting.join(10)
        assert not waiting.is_alive()
    assert len(said) == 1
    assert f"(pid {holder.pid}) holds" in said[0]


def test_one_that_never_ends_is_an_error_that_names_it(lock: Path) -> None:
    with hold(lock) as holder:
        with pytest.raises(RolloutError, match=rf"\(pid {holder.pid}\) still holds the lock of dpkg after 0 s"):
            apt.wait_for_lock(lambda text: None, seconds=0)
        holder.communicate()
