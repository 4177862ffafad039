"""What this host owes because something changed: handlers still to be run, each kept until it was.

A debt is on the disk before the change that causes it is made, so neither a failed step nor a power cut loses it, and whichever
run comes next pays it. A unit that was started since has read the change: nothing is owed any more, whoever started it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any, Optional

from percore.errors import RolloutError
from percore.host.files import write_file
from percore.host.resources.command import run
from percore.host.resources.resource import Spec, shown
from percore.host.resources.systemd import journal_of

HANDOVER = "handover"
"""The kind of handler that lets a new supervisor take over the workers; it has a place of its own in a switch."""

Debt = dict[str, Any]
"""`handler` (its spec), `because` (a text), `invocation` (systemd's id of the unit's start that has not read the change)."""


class Debts:
    def __init__(self, path: str) -> None:
        self.path = path
        self._noted: set[str] = set()  # by this object, and no unit was started since

    def read(self) -> dict[str, Debt]:
        """By the handlers' names, the oldest first."""
        try:
            with open(self.path, encoding="utf-8") as source:
                found: dict[str, Debt] = json.load(source)
        except FileNotFoundError:
            return {}
        except ValueError:
            raise RolloutError(
                "is not valid JSON", where=self.path, next="restart what may owe it, remove the file, deploy again"
            ) from None
        return found

    def outstanding(self) -> dict[str, Debt]:
        """Those that no restart by somebody else has paid."""
        return {name: debt for name, debt in self.read().items() if _is_owed(debt)}

    def texts(self) -> list[str]:
        return [f"{describe(debt['handler'])}, because: {debt['because']}" for debt in self.outstanding().values()]

    def notify(self, spec: Spec, handlers: Iterable[Spec], because: str) -> None:
        """Note whom the change of a resource notifies; call it before the change is made."""
        for handler in handlers:
            if handler["name"] in spec.get("notify", ()) and handler["name"] not in self._noted:
                self.owe(handler, because)

    def owe(self, handler: Spec, because: str) -> None:
        """Returns when it is on the disk. What is owed already is owed from now on."""
        debt = {"handler": handler, "because": because, "invocation": _invocation(handler.get("unit"))}
        self.replace({**self.read(), handler["name"]: debt})
        self._noted.add(handler["name"])

    def units_changed(self) -> None:
        """A unit may have been started: what is notified from now on is newer than that start."""
        self._noted.clear()

    def settle(self, name: str) -> None:
        self._noted.discard(name)
        self.replace({other: debt for other, debt in self.read().items() if other != name})

    def replace(self, debts: dict[str, Debt]) -> None:
        if debts == self.read():
            return
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        write_file(self.path, json.dumps(debts, indent=1).encode(), mode=0o600)
        folder = os.open(os.path.dirname(self.path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def describe(handler: Spec) -> str:
    if handler["kind"] == "run":
        return shown(handler, f"run {' '.join(handler['run'])}")
    if handler["kind"] == HANDOVER:
        return f"start {handler['unit']} anew, its workers live on"
    return f"{handler['kind']} {handler['unit']}"


def in_order(debts: dict[str, Debt], handlers: Iterable[Spec]) -> list[Debt]:
    """As the roles name their handlers; what only former roles named comes first."""
    order = {handler["name"]: place for place, handler in enumerate(handlers, 1)}
    return sorted(debts.values(), key=lambda debt: order.get(debt["handler"]["name"], 0))


def pay(handler: Spec) -> None:
    """Run a handler; RolloutError when it fails, or when its unit does not stay up."""
    if handler["kind"] == "run":
        run(list(handler["run"]), seconds=float(handler["seconds"]))
        return
    verb = "restart" if handler["kind"] == "restart" else "reload-or-restart"
    try:
        run(["systemctl", verb, handler["unit"]])
    except RolloutError as error:
        raise RolloutError(error.what, detail=journal_of(handler["unit"]) or error.detail) from None


def _is_owed(debt: Debt) -> bool:
    unit = debt["handler"].get("unit")
    return unit is None or _invocation(unit) == debt["invocation"]


def _invocation(unit: Optional[str]) -> str:
    """Another text after every start of a unit; empty where it is not active, or there is no systemd."""
    if unit is None:
        return ""
    try:
        return run(["systemctl", "show", "--property=InvocationID", "--value", unit]).strip()
    except RolloutError:
        return ""
