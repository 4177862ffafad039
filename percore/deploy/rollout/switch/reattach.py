"""A host that was switched and whose connection was cut: the run takes its switch up again over a new one."""

from __future__ import annotations

import time
from typing import Any

from percore.deploy.rollout.host import Host, confirm_seconds, lock_owner
from percore.errors import LockedError, UnreachableError


def ask_again(host: Host, op: str, **message: Any) -> Any:
    """Ask a host that was switched; once more over a new connection when the old one is gone."""
    try:
        return host.ask(op, **message)
    except UnreachableError as lost:
        reattach(host, lost)
        return host.ask(op, **message)


def reattach(host: Host, lost: UnreachableError) -> Any:
    """Take up the switch of this run again; the first error when the host stays out of reach until it rolls back by itself."""
    deadline = time.monotonic() + confirm_seconds(host)
    while time.monotonic() < deadline:
        try:
            host.connect()
            return host.ask("attach", owner=lock_owner(), run=host.scope.run)
        except (UnreachableError, LockedError):
            time.sleep(0.5)
    raise lost
