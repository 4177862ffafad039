"""The variable `alerts`: who is told of what. An entry names an address (`to`) or a command (`run`), and its events (`on`)."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from percore.deploy import schema
from percore.deploy.alerts.alert import KINDS
from percore.deploy.masking import REDACTOR
from percore.deploy.schema import VariableSource, read_variable
from percore.errors import UsageError

_KEYS = ("to", "run", "on", "secret")
_ALERTS: schema.Kind[list[Any]] = schema.defaulting(schema.LIST, [])
_COMMAND = schema.matching("a command", lambda text: text.strip())
_ADDRESS = schema.matching(
    "an address such as https://... or slack://...", lambda text: re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[!-~]", text)
)
_EVENTS = schema.lists_of(schema.choice(*KINDS))


@dataclass(frozen=True)
class AlertTarget:
    """One of `address` and `command`. `name` may be shown: most of an address can be secret."""

    address: str = field(default="", repr=False)
    command: str = ""
    secret: str = field(default="", repr=False)
    on: tuple[str, ...] = tuple(KINDS)

    @property
    def is_webhook(self) -> bool:
        return self.address.lower().startswith(("http://", "https://"))

    @property
    def name(self) -> str:
        if self.command:
            return f"command '{self.command}'"
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.hostname or ''}" if self.is_webhook else f"{parts.scheme}://"


def read_targets(variables: VariableSource) -> tuple[AlertTarget, ...]:
    """Raises UsageError for an entry that makes no sense. What is secret of an address is masked from now on."""
    where = variables.where("alerts")
    written = read_variable(variables, "alerts", _ALERTS)
    return tuple(_read_target(entry, f"alerts[{number}]", where) for number, entry in enumerate(written))


def _read_target(written: Any, name: str, where: str) -> AlertTarget:
    entry = schema.require_keys(schema.MAPPING.read(written, f"variable '{name}'", where), _KEYS, name, where)
    if ("to" in entry) == ("run" in entry):
        raise UsageError(f"{name} needs either 'to' or 'run'", where=where, next="name an address, or a command")
    on = _EVENTS.read(entry["on"], f"variable '{name}.on'", where) if "on" in entry else tuple(KINDS)
    if "run" in entry:
        if "secret" in entry:
            raise UsageError(f"{name}.secret is for webhooks alone", where=where, next="take it out")
        return AlertTarget(command=_COMMAND.read(entry["run"], f"variable '{name}.run'", where), on=on)
    REDACTOR.hide(str(entry["to"]).partition("://")[2])
    address = _ADDRESS.read(entry["to"], f"variable '{name}.to'", where)
    target = AlertTarget(address, secret=_read_secret(entry, name, where), on=on)
    if not target.is_webhook:
        _require_known(target, name, where)
    return target


def _read_secret(entry: Mapping[str, Any], name: str, where: str) -> str:
    if "secret" not in entry:
        return ""
    REDACTOR.hide(entry["secret"])
    if not _is_webhook_address(str(entry["to"])):
        raise UsageError(f"{name}.secret is for webhooks alone", where=where, next="take it out")
    return schema.TEXT.read(entry["secret"], f"variable '{name}.secret'", where)


def _is_webhook_address(address: str) -> bool:
    return AlertTarget(address).is_webhook


@functools.cache  # every host of a run has the same
def _is_known(address: str) -> bool:
    from apprise import Apprise

    return bool(Apprise().add(address))


def _require_known(target: AlertTarget, name: str, where: str) -> None:
    """An address that could not be used is refused before a run, not noticed when something failed."""
    if not _is_known(target.address):
        raise UsageError(
            f"{name}.to is no address that a {target.name} service has", where=where,
            next="see docs/how-to/alerts.md for the forms of addresses",
        )  # fmt: skip
