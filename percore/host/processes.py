"""The on-host command `percore`, as the agent uses it: apply a release, ask for status, read logs, end everything."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from typing import Any, Callable, NamedTuple, Optional

from percore.errors import PartialError, PercoreError, RolloutError

Emit = Callable[[dict[str, Any]], None]
ASK_SECONDS = 30.0
RENEW_SECONDS = 30.0
APPLY_SECONDS = 900.0
PROTOCOL_VERSION = 1
"""Of the daemon's control socket (percore/supervisor/protocol.py); to a daemon of another version the command speaks."""


class Supervisor(NamedTuple):
    """How to reach the supervisor: the command's words, its state folder, and the user it belongs to (None: ours).

    Without a user of its own it is a background process of ours; with one, a systemd unit starts it again when it ends.
    `package` is the folder whose link `current` leads to the code it should run.
    """

    command: list[str]
    home: str
    user: Optional[str]
    package: str

    def env(self) -> dict[str, str]:
        if self.user is None:
            return {**os.environ, "PERCORE_HOME": self.home}
        path = os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        return {"PATH": path, "HOME": self.home, "LANG": "C.UTF-8", "USER": self.user, "PERCORE_HOME": self.home}

    def start(self, *words: str, errors: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        """Start `percore WORDS` as the supervisor's own user, its output in pipes."""
        as_user: dict[str, Any] = {}
        if self.user is not None and os.getuid() == 0:
            as_user = {"user": self.user, "group": self.user, "extra_groups": [self.user]}
        try:
            return subprocess.Popen(
                [*self.command, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self.env(),
                **as_user,
            )
        except (OSError, KeyError) as error:
            raise RolloutError(f"cannot run '{self.command[0]}': {error}", next="deploy first") from None

    def is_installed(self) -> bool:
        return os.path.exists(self.command[0])

    def ask(self, *words: str) -> str:
        """Output of a short command; raises RolloutError with its own last line when it fails."""
        child = self.start(*words)
        try:
            output, errors = child.communicate(timeout=ASK_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise RolloutError(f"'percore {' '.join(words)}' did not answer within {ASK_SECONDS:g} s") from None
        if child.returncode != 0:
            raise RolloutError(f"'percore {' '.join(words)}' failed: {_last_line(errors or output)}")
        return output.decode(errors="replace")

    def status(self) -> dict[str, Any]:
        """As `percore status --json`; nothing runs where percore is not installed."""
        if not self.is_installed():
            return {"release": None, "apps": [], "daemon": False}
        status: dict[str, Any] = self._ask_daemon("status") or json.loads(self.ask("status", "--json"))
        return status

    def _ask_daemon(self, op: str) -> Optional[dict[str, Any]]:
        """The daemon's answer without the command between, which costs a process; None where only the command knows more."""
        request = json.dumps({"version": PROTOCOL_VERSION, "op": op}).encode() + b"\n"
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(ASK_SECONDS)
                link.connect(os.path.join(self.home, "run", "control.sock"))
                link.sendall(request)
                with link.makefile("rb") as replies:
                    answer = json.loads(replies.readline())
        except (OSError, ValueError):
            return None
        if answer.pop("event", "") != "result" or not answer.pop("ok", False):
            return None
        return dict(answer)

    def log_tail(self, app: str, *, lines: int = 20) -> list[str]:
        try:
            return self.ask("logs", *([app] if app else []), "--lines", str(lines), "--nostream").splitlines()[-lines:]
        except PercoreError:
            return []

    def kill(self) -> None:
        if self.is_installed():
            self.ask("kill")

    def apply(self, record_path: str, release: str, emit: Emit) -> list[dict[str, Any]]:
        """Make what runs match the record; returns the changes. Failing, percore has taken itself back already."""
        child = self.start("apply", record_path, "--json", "--release", release)
        guard = threading.Timer(APPLY_SECONDS, child.kill)
        guard.start()
        errors: list[bytes] = []
        assert child.stdout is not None
        assert child.stderr is not None
        error_pipe = child.stderr
        reader = threading.Thread(target=lambda: errors.append(error_pipe.read()), daemon=True)
        reader.start()
        result: dict[str, Any] = {}
        for line in child.stdout:
            event = _parse_event(line)
            if event.get("event") == "result":
                result = event
            elif event:
                emit(event)
        code = child.wait()
        guard.cancel()
        reader.join(1.0)  # a daemon started by this command may hold the pipe open: its words do not matter here
        if code == 0 and result.get("ok", True):
            changes: list[dict[str, Any]] = result.get("changes", [])
            return changes
        what = result.get("error") or _last_line(b"".join(errors)) or f"'percore apply' ended with code {code}"
        detail = "\n".join(result.get("log_tail") or [])
        what, _, advice = what.partition(" -> ")
        raise (PartialError if code == 5 else RolloutError)(what, next=advice, detail=detail)

    def renew(self, emit: Emit, *, anew: bool = False) -> None:
        """Let a supervisor that runs other code than the present package end and come back; its workers never notice.

        `anew`: also one that runs the present package, since its unit changed.

        It is killed, not asked: being killed is what it is built to survive, while a polite stop would end the workers.
        """
        pid = self.daemon_pid()
        wanted = os.path.basename(os.path.realpath(os.path.join(self.package, "current")))
        if pid is None or (wanted.encode() in _command_line(pid) and not anew):
            return
        emit({"event": "progress", "text": f"hand the workers over to the supervisor of package {wanted}"})
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + RENEW_SECONDS
        while self.daemon_pid(start=self.user is None) in (None, pid):
            if time.monotonic() > deadline:
                raise RolloutError(f"the supervisor of package {wanted} did not come up within {RENEW_SECONDS:g} s")
            time.sleep(0.05)

    def daemon_pid(self, *, start: bool = False) -> Optional[int]:
        """None when no supervisor runs; `start` starts one in the background."""
        if not start and not self.status().get("daemon", True):
            return None
        return int(self.ask("ping").split()[-1])

    def delete(self, record_path: str) -> None:
        """End and forget the apps of a release, and keep the daemon; those that are not known are none to end."""
        with open(record_path, encoding="utf-8") as source:
            names = [app["name"] for app in json.load(source)["apps"]]
        known = {app["name"] for app in self.status()["apps"]}
        for name in names:
            if name in known:
                self.ask("delete", name)


def _parse_event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _command_line(pid: int) -> bytes:
    """The words of a process; those of a process that is gone, or on a system without /proc, are unknown."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as source:
            return source.read()
    except OSError:
        return b""


def _last_line(output: bytes) -> str:
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
