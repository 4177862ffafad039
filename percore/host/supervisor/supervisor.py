"""The on-host command `percore`, as the agent uses it: apply a release, ask for status, read logs, end everything."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import time
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Optional

from percore.common.app_names import is_same_app, selector_of
from percore.common.control import decode_or_none
from percore.errors import PartialError, PercoreError, RolloutError
from percore.host.output import Output, TooMuch
from percore.host.paths import open_for_reading
from percore.host.supervisor import control
from percore.host.supervisor.answers import is_progress, parse_result, parse_status

Emit = Callable[[dict[str, Any]], None]
ASK_SECONDS = 30.0
REPLACE_SECONDS = 30.0
APPLY_SECONDS = 900.0
LONGEST_LOG_LINE = 2000


class Supervisor(NamedTuple):
    """How to reach the supervisor: the command's words, its state directory, and the user it belongs to (None: ours).

    Without a user of its own it is a background process of ours; with one, a systemd unit starts it again when it ends.
    `package` is the directory whose link `current` leads to the code it should run.
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
        try:
            return subprocess.Popen(
                [*self.command, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                env=self.env(), **_rights_of(self.user),
            )  # fmt: skip
        except FileNotFoundError:
            logs = os.path.join(self.home, "logs")
            left = f"; what the apps of a failed deploy wrote is in {logs}" if os.path.isdir(logs) else ""
            raise RolloutError(f"no deploy has succeeded here yet{left}", next="deploy first") from None
        except (OSError, KeyError) as error:
            raise RolloutError(f"cannot run '{self.command[0]}': {error}", next="deploy first") from None

    def closed_way(self, *places: str) -> str:
        """The first directory on the way to these that its user may not enter: the kernel is asked, which knows ACLs as well."""
        self.uid()  # raises where there is no such user
        ways = [place[:end] for place in places for end, sign in enumerate(f"{place}/") if sign == "/" and end]
        words = ["sh", "-c", 'for way; do [ -x "$way" ] || [ ! -e "$way" ] || exec echo "$way"; done', "sh", *ways]
        return str(subprocess.check_output(words, cwd="/", text=True, **_rights_of(self.user))).strip()

    def is_installed(self) -> bool:
        return os.path.exists(self.command[0])

    def uid(self) -> int:
        if self.user is None:
            return os.geteuid()
        try:
            return pwd.getpwnam(self.user).pw_uid
        except KeyError:
            raise RolloutError(f"user '{self.user}' does not exist here", next="deploy first") from None

    def ask(self, *words: str) -> str:
        """Output of a short command; raises RolloutError with its own last line when it fails."""
        output = Output(self.start(*words), seconds=ASK_SECONDS)
        try:
            said = output.all()
        except TooMuch as error:
            raise RolloutError(f"'percore {' '.join(words)}' {error} ({ASK_SECONDS:g} s)") from None
        if output.code() != 0:
            raise RolloutError(f"'percore {' '.join(words)}' failed: {_last_line(output.errors or said)}")
        return said.decode(errors="replace")

    def status(self) -> dict[str, Any]:
        """As `percore status --json`; nothing runs where percore is not installed."""
        if not self.is_installed():
            return {"release": None, "apps": [], "daemon": False}
        answer = self._ask_daemon("status")  # without the command between, which costs a process
        found = answer.result if answer else {}
        if found and "version" not in found and (told := self._ask_daemon("ping")):  # an older one
            found["version"] = told.result.get("version")
        return parse_status(found or decode_or_none(self.ask("status", "--json").encode()))

    def jobs(self, names: Sequence[str]) -> list[Any]:
        """As `percore jobs --json`; the control side types what is in it."""
        if not self.is_installed():
            return []
        try:
            found = json.loads(self.ask("jobs", *names, "--json"))
        except ValueError:
            found = None
        if not isinstance(found, list):
            raise RolloutError("'percore jobs' made no sense", next="percore update, or deploy again")
        return found

    def _ask_daemon(self, op: str) -> Optional[control.Reply]:
        return control.ask(self.home, op, uid=self.uid(), seconds=ASK_SECONDS)

    def log_tail(self, app: str, *, lines: int = 20) -> list[str]:
        try:
            said = self.ask("logs", *([app] if app else []), "--lines", str(lines), "--nostream")
        except PercoreError:
            return []
        return [line[:LONGEST_LOG_LINE] for line in said.splitlines()[-lines:]]

    def kill(self) -> None:
        if self.is_installed():
            self.ask("kill")

    def apply(self, record_path: str, release: str, emit: Emit) -> list[dict[str, Any]]:
        """Make what runs match the record; returns the changes. When it fails, percore has rolled itself back already."""
        output = Output(self.start("apply", record_path, "--json", "--release", release), seconds=APPLY_SECONDS)
        result: dict[str, Any] = {}
        try:
            for line in output.lines():
                event = decode_or_none(line) or {}
                if event.get("event") == "result":
                    result = parse_result(event)
                elif is_progress(event):
                    emit(event)
            code = output.code()
        except TooMuch as error:
            raise RolloutError(f"'percore apply' {error} ({APPLY_SECONDS:g} s)") from None
        finally:
            output.end()
        if code == 0 and result.get("ok", True):
            changes: list[dict[str, Any]] = result.get("changes", [])
            return changes
        what = result.get("error") or _last_line(output.errors) or f"'percore apply' ended with code {code}"
        detail = "\n".join(result.get("log_tail") or [])
        what, _, advice = what.partition(" -> ")
        raise (PartialError if code == 5 else RolloutError)(what, next=advice, detail=detail)

    def replace(self, emit: Emit, *, always: bool = False) -> None:
        """Let a supervisor that runs other code than the present package end and come back; its workers never notice.

        `always`: also one that runs the present package, since its unit changed.

        It is killed, not asked: being killed is what it is built to survive, while a polite stop would end the workers.
        """
        former = self.daemon()
        wanted = os.path.basename(os.path.realpath(os.path.join(self.package, "current")))
        if former is None or (wanted.encode() in former.command_line and not always):
            return
        emit({"event": "progress", "text": f"hand the workers over to the supervisor of package {wanted}"})
        former.kill()
        deadline = time.monotonic() + REPLACE_SECONDS
        while self.daemon(start=self.user is None) in (None, former):
            if time.monotonic() > deadline:
                raise RolloutError(f"the supervisor of package {wanted} did not come up within {REPLACE_SECONDS:g} s")
            time.sleep(0.05)

    def daemon(self, *, start: bool = False) -> Optional[control.Daemon]:
        """Who really listens, not who says so. None when no supervisor runs; `start` starts one in the background."""
        if not self.is_installed():
            return None
        if start:
            self.ask("ping")
        answer = self._ask_daemon("ping")
        return answer.daemon if answer else None

    def delete(self, record_path: str) -> None:
        """End and forget the apps of a release, and keep the daemon; those that are not known are none to end."""
        with open_for_reading(record_path) as source:
            apps = json.load(source)["apps"]
        known = self.status()["apps"]
        for app in apps:
            if any(is_same_app(app, each) for each in known):
                self.ask("delete", selector_of(app, known))


def _last_line(output: bytes) -> str:
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def _rights_of(user: Optional[str]) -> dict[str, Any]:
    """For a program of that user. Raises KeyError for one who is not there."""
    if user is None or os.getuid() != 0:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist(user, entry.pw_gid)}
