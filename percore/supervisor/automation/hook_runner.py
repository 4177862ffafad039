"""A process for the time of one event: runs commands, posts to addresses, and says in one line what failed.

The task comes on stdin; stderr is the supervisor's log.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

from percore.common.typing import Any

_COMMAND_SECONDS = 30.0
_POST_SECONDS = 10.0


def main() -> None:
    task = json.load(sys.stdin)
    message = task["message"]
    if task["identity"]:
        uid, gid, groups = task["identity"]
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
    os.chdir(task["cwd"] if os.path.isdir(task["cwd"]) else "/")
    for target in task["targets"]:
        is_address = target.startswith(("http://", "https://"))
        failure = tell(target, message, task["secret"]) if is_address else run(target, message)
        if failure:
            now = time.strftime("%Y-%m-%dT%H:%M:%S")
            sys.stderr.write(f"{now} {message['app']}: hook {message['event']} {failure}\n")


def run(command: str, message: Mapping[str, Any]) -> str:
    """What failed; empty when nothing did. The command gets the event on stdin and in variables."""
    env = {
        **os.environ,
        "PERCORE_EVENT": message["event"],
        "PERCORE_EVENT_APP": message["app"],
        "PERCORE_EVENT_REASON": message["reason"],
        "PERCORE_EVENT_SLOT": str(message.get("slot", "")),
    }
    with subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True, env=env, encoding="utf-8", errors="replace",
    ) as process:  # fmt: skip
        try:
            _, said = process.communicate(json.dumps(message), timeout=_COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return f"did not end within {_COMMAND_SECONDS:g} s and was killed"
        code = process.returncode
    last = said.strip().splitlines()[-1:] or [""]
    return f"ended with code {code}{': ' if last[0] else ''}{last[0][:200]}" if code else ""


def tell(address: str, message: Mapping[str, Any], secret: str) -> str:
    """As `run`, by POST. Only the host is named: the rest of an address may be secret."""
    import urllib.error
    import urllib.parse

    from percore.supervisor.automation.webhook import post

    host = urllib.parse.urlsplit(address).hostname
    try:
        post(address, json.dumps(message).encode(), secret, _POST_SECONDS)
    except urllib.error.HTTPError as error:
        return f"was answered with {error.code} by {host}"
    except (OSError, ValueError) as error:
        return f"did not reach {host}: {getattr(error, 'reason', error)}"
    return ""
