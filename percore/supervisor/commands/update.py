"""A newer percore takes over from the running supervisor; the workers are not affected."""

from __future__ import annotations

import os
import subprocess
import time

from percore import __version__
from percore.errors import PercoreError
from percore.supervisor.base.home import Home
from percore.supervisor.base.program import this_program
from percore.supervisor.client import NoDaemon, ask, ask_or_nothing
from percore.supervisor.commands.output import say

_CHECK_SECONDS = 20.0
_START_SECONDS = 20.0


def update_supervisor(_: list[str]) -> int:
    running = ask_or_nothing("ping")
    if running is None:
        say(f"no supervisor runs; the next one will be version {__version__}")
        return 0
    home, program = Home.of_user(), this_program()
    still_runs = f"the supervisor of version {running['version']} (pid {running['pid']}) keeps running"
    try:
        tried = subprocess.run(
            program.argv("check"), env={**os.environ, "PERCORE_HOME": home.path}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=_CHECK_SECONDS, check=False, cwd="/",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise PercoreError(f"version {__version__} does not start within {_CHECK_SECONDS:g} s; {still_runs}") from None
    if tried.returncode != 0:
        reason = (tried.stderr.strip().splitlines() or [f"it ended with {tried.returncode}"])[-1]
        raise PercoreError(f"version {__version__} cannot take over ({reason}); {still_runs}", detail=tried.stderr)
    ask("update", root=program.root, python=program.python)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            now = ask("ping")
        except PercoreError as error:  # between two programs there is no answer
            if time.monotonic() > deadline:
                what = "no supervisor is running" if isinstance(error, NoDaemon) else str(error)
                raise PercoreError(
                    f"version {__version__} did not take over: {what}; the workers keep running",
                    next=f"see {home.daemon_log}, then: percore ping",
                ) from None
        else:
            if now["instance"] != running["instance"]:
                break
        time.sleep(0.01)
    say(
        f"version {now['version']} took over from {running['version']} (pid {now['pid']}); the workers were not affected"
    )
    return 0
