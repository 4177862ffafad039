"""Handlers that a change notified and that have not run yet, each kept until it has.

A handler is noted on the disk before the change that notifies it is made, so neither a failed step nor a power cut loses it, and
the next run of any kind runs it. A unit that was started since has read the change: its handler is no longer pending, by
whatever means it was started.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any, Optional

from percore.errors import RolloutError
from percore.host.files import write_file
from percore.host.messages import Spec
from percore.host.resources.command import run
from percore.host.resources.resource import shown
from percore.host.resources.systemd import journal_of

HANDOVER = "handover"
"""The kind of handler that lets a new supervisor take over the workers; it has a place of its own in a switch."""

Pending = dict[str, Any]
"""`handler` (its spec), `because` (a text), `invocation` (systemd's id of the unit's start that has not read the change)."""


class PendingHandlers:
    def __init__(self, path: str) -> None:
        self.path = path
        self._noted: set[str] = set()  # by this object, and no unit was started since

    def read(self) -> dict[str, Pending]:
        """By the handlers' names, the oldest first."""
        try:
            with open(self.path, encoding="utf-8") as source:
                found: dict[str, Pending] = json.load(source)
        except FileNotFoundError:
            return {}
        except ValueError:
            raise RolloutError(
                "is not valid JSON",
                where=self.path,
                next="restart the services whose files changed, remove the file, deploy again",
            ) from None
        return found

    def outstanding(self) -> dict[str, Pending]:
        """Those whose unit was not started in the meantime."""
        return {name: pending for name, pending in self.read().items() if _is_outstanding(pending)}

    def texts(self) -> list[str]:
        return [f"{describe(each['handler'])}, because: {each['because']}" for each in self.outstanding().values()]

    def notify(self, spec: Spec, handlers: Iterable[Spec], because: str) -> None:
        """Note the handlers that the change of a resource notifies; call it before the change is made."""
        for handler in handlers:
            if handler["name"] in spec.get("notify", ()) and handler["name"] not in self._noted:
                self.add(handler, because)

    def add(self, handler: Spec, because: str) -> None:
        """Returns when it is on the disk. One that is pending already is pending from now on."""
        pending = {"handler": handler, "because": because, "invocation": _invocation(handler.get("unit"))}
        self.replace({**self.read(), handler["name"]: pending})
        self._noted.add(handler["name"])

    def units_changed(self) -> None:
        """A unit may have been started: what is notified from now on is newer than that start."""
        self._noted.clear()

    def remove(self, name: str) -> None:
        """It has run."""
        self._noted.discard(name)
        self.replace({other: pending for other, pending in self.read().items() if other != name})

    def replace(self, pending: dict[str, Pending]) -> None:
        if pending == self.read():
            return
        parent = os.path.dirname(self.path)
        os.makedirs(parent, exist_ok=True)
        write_file(self.path, json.dumps(pending, indent=1).encode(), mode=0o600)
        directory = os.open(parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def describe(handler: Spec) -> str:
    if handler["kind"] == "run":
        return shown(handler, f"run {' '.join(handler['run'])}")
    if handler["kind"] == HANDOVER:
        return f"start {handler['unit']} anew, its workers live on"
    return f"{handler['kind']} {handler['unit']}"


def in_order(pending: dict[str, Pending], handlers: Iterable[Spec]) -> list[Pending]:
    """As the roles name their handlers; what only former roles named comes first."""
    order = {handler["name"]: place for place, handler in enumerate(handlers, 1)}
    return sorted(pending.values(), key=lambda each: order.get(each["handler"]["name"], 0))


def run_handler(handler: Spec) -> None:
    """RolloutError when it fails, or when its unit does not stay up."""
    if handler["kind"] == "run":
        run(list(handler["run"]), seconds=float(handler["seconds"]))
        return
    verb = "restart" if handler["kind"] == "restart" else "reload-or-restart"
    try:
        run(["systemctl", verb, handler["unit"]])
    except RolloutError as error:
        raise RolloutError(error.what, detail=journal_of(handler["unit"]) or error.detail) from None


def _is_outstanding(pending: Pending) -> bool:
    unit = pending["handler"].get("unit")
    return unit is None or _invocation(unit) == pending["invocation"]


def _invocation(unit: Optional[str]) -> str:
    """Another text after every start of a unit; empty where it is not active, or there is no systemd."""
    if unit is None:
        return ""
    try:
        return run(["systemctl", "show", "--property=InvocationID", "--value", unit]).strip()
    except RolloutError:
        return ""
