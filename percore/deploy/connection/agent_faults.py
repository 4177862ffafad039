"""Why there is no agent at the other end, or what it says that went wrong, in the operator's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from percore.common.printable import printable
from percore.deploy.connection import bootstrap
from percore.deploy.connection.address import HostAddress
from percore.errors import (
    LockedError,
    PartialError,
    PercoreError,
    PreflightError,
    RolloutError,
    UnreachableError,
    UsageError,
)

NOT_THERE = ("not found", "No such file", "Unknown command", "no such command", "no Python 3.9")
"""Words of shells, and ours, for an interpreter that is missing."""

NO_SUDOER = "is not in the sudoers file"

PYTHON_2 = "Unknown option: -I"

PYTHON_ADVICE = "install python3 there, or set ansible_python_interpreter: its path, or 'auto' to look for one"

SAID = 4000
"""Characters of a host's sentence that go into an error."""


def explain_silence(address: HostAddress, said: bytes) -> PercoreError:
    """The link stands, and the login shell does something else than to start the agent."""
    lines = said.decode(errors="replace").strip().splitlines()
    last = f": it said '{printable(lines[-1])[-200:]}'" if lines else ""
    return UnreachableError(
        f"the login shell did not start {address.python[0]}{last}",
        where=address.host,
        next="try 'ssh HOST true': a log-in that asks or waits cannot be used",
    )


def explain_loss(address: HostAddress, complaint: str) -> PercoreError:
    """`complaint` is the last that was heard; empty where that is nothing."""
    last = printable(_reason_in(complaint.splitlines()))[:SAID] if complaint else "the connection was lost"
    if "incorrect password" in complaint or "no password was provided" in complaint:
        return UnreachableError(
            f"sudo does not take the password for user '{address.become_user}'",
            where=address.host,
            next="check ansible_become_password",
        )
    if address.become and (refused := _sudo_refusal(address, complaint)):
        return refused
    if address.become and "sudo" in complaint and "password" in complaint:
        return UnreachableError(
            "sudo asks for a password",
            where=address.host,
            next="set ansible_become_password (in a vault) or PERCORE_BECOME_PASSWORD, or allow NOPASSWD in sudoers",
        )
    if any(sign in last for sign in (bootstrap.TOO_OLD, *NOT_THERE)):
        return PreflightError(last, where=address.host, next=PYTHON_ADVICE)
    return UnreachableError(last, where=address.host, next="look at the host, then try again", detail=complaint)


def _sudo_refusal(address: HostAddress, complaint: str) -> PercoreError | None:
    """Its own sentence quotes the whole program, in which other signs would be found."""
    user = address.ssh.user or "the user"
    if "must have a tty" in complaint:
        what, advice = "sudo wants a terminal there (requiretty)", f"add to sudoers: Defaults:{user} !requiretty"
    elif "is not allowed to execute" in complaint or "may not run sudo" in complaint or NO_SUDOER in complaint:
        what = f"sudo does not let {user} run {address.python[0]} as '{address.become_user}'"
        advice = f"add to sudoers: {user} ALL=({address.become_user}) ALL"
    else:
        return None
    return UnreachableError(what, where=address.host, next=advice)


def _reason_in(lines: list[str]) -> str:
    """The last line, but that some shells draw a picture behind the one that tells of a missing program."""
    if any(line.startswith(PYTHON_2) for line in lines):
        return f"this is Python 2, which {bootstrap.TOO_OLD}"
    return next((line for line in lines[-5:] if any(sign in line for sign in NOT_THERE)), lines[-1])


def remote_error(host: str, error: Mapping[str, Any]) -> PercoreError:
    """The host's error as the same class here, told apart by its exit code; its sentence is always one line."""
    kinds: list[type[PercoreError]] = [
        UsageError,
        PreflightError,
        RolloutError,
        PartialError,
        LockedError,
        UnreachableError,
    ]
    kind = next((kind for kind in kinds if kind.exit_code == error["exit_code"]), PercoreError)
    what, place, advice = (printable(error.get(name, ""))[:SAID] for name in ("what", "where", "next"))
    detail = error.get("detail") or error.get("trace", "")
    return kind(what, where=f"{host}: {place}" if place else host, next=advice, detail=detail)
