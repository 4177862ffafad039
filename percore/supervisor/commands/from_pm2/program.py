"""The PM2 of this user: where it is, what it runs, and the few commands that a takeover needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from typing import Any, NamedTuple

from percore.common.bounds import read_file
from percore.common.passwords import for_programs
from percore.common.procfs import command_line_of
from percore.errors import PercoreError, UsageError
from percore.supervisor.commands.init import is_ours

_SECONDS = 90
_MOST_BYTES = 64 << 20


class Pm2(NamedTuple):
    home: str
    program: str = ""

    @property
    def pid(self) -> int:
        """Of its daemon; 0 where none runs. `pm2 jlist` would start one."""
        try:
            pid = int(read_file(os.path.join(self.home, "pm2.pid"), most=100))
        except (OSError, ValueError):
            return 0
        return pid if b"PM2" in command_line_of(pid) and os.stat(f"/proc/{pid}").st_uid == os.geteuid() else 0

    def listed(self) -> Any:
        return as_json(self._run("jlist").splitlines()[-1:], "pm2 jlist")

    def dumped(self) -> Any:
        path = os.path.join(self.home, "dump.pm2")
        try:
            return as_json([read_file(path, most=_MOST_BYTES).decode()], path)
        except (OSError, UnicodeDecodeError) as error:
            what = error.strerror if isinstance(error, OSError) else "it is not text"
            raise UsageError(
                f"no PM2 runs, and its saved list cannot be read: {what}",
                where=path,
                next="pm2 save as the user whose apps they are, or --pm2-home DIRECTORY",
            ) from None

    def stop(self, ids: Iterable[int]) -> None:
        self._run("stop", *map(str, ids))

    def start_again(self, ids: Iterable[int]) -> None:
        self._run("restart", *map(str, ids))

    def forget(self, ids: Iterable[int]) -> None:
        """A stopped app would be started by its cron_restart or a changed file."""
        self._run("delete", *map(str, ids))

    def _run(self, *words: str) -> str:
        quiet = {"PM2_DISABLE_VERSION_CHECK": "true", "PM2_DISCRETE_MODE": "true"}
        try:
            done = subprocess.run(
                [self.program, *words], env=for_programs(PM2_HOME=self.home, **quiet), stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=_SECONDS, errors="replace",
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PercoreError(f"pm2 {words[0]} did not end well: {error}", where=self.program) from None
        if done.returncode:
            detail = (done.stderr or done.stdout).strip()
            raise PercoreError(f"pm2 {' '.join(words)} ended with {done.returncode}", where=self.program, detail=detail)
        return done.stdout


def as_json(lines: list[str], where: str) -> Any:
    """PM2 prints other lines before its list."""
    try:
        return json.loads(lines[0] if lines else "")
    except (ValueError, RecursionError):
        raise PercoreError("it is not PM2's JSON", where=where) from None


def find_pm2(home: str, program: str) -> Pm2:
    """Raises UsageError where the directory is another user's, or a daemon runs that no program can talk to."""
    home = os.path.abspath(home or os.environ.get("PM2_HOME") or os.path.expanduser("~/.pm2"))
    try:
        owner = os.stat(home).st_uid
    except OSError as error:
        raise UsageError(
            f"PM2's directory cannot be read: {error.strerror}", where=home, next="--pm2-home DIRECTORY"
        ) from None
    if owner != os.geteuid():
        raise UsageError("it belongs to another user", where=home, next="run percore import-pm2 as that user")
    places = [program] if program else [shutil.which("pm2") or "", os.path.abspath("node_modules/.bin/pm2")]
    found = next((place for place in places if os.access(place, os.X_OK) and not is_ours(place)), "")
    pm2 = Pm2(home, os.path.abspath(found) if found else "")
    if pm2.pid and not found:
        raise UsageError(
            f"PM2 runs (pid {pm2.pid}), but its command is not found", next="--pm2 PATH, such as node_modules/.bin/pm2"
        )
    return pm2
