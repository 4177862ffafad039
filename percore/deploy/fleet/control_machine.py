"""What is wrong with the machine that the operator types at."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from packaging.requirements import Requirement

from percore.common.finding import ERROR, NOTE, Finding
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.scope import Scope
from percore.deploy.vault.envelope import Sealed
from percore.deploy.vault.passwords import open_sealed
from percore.errors import PercoreError

_LITTLE_DISK = 1 << 30


def about_machine(scope: Scope) -> Iterator[Finding]:
    yield from _about_versions()
    if shutil.which("ssh") is None:
        what = "there is no OpenSSH client: of ~/.ssh/config less is understood"
        yield Finding(what, "install openssh-client", "ssh", NOTE)
    room = shutil.disk_usage(scope.project)
    if room.free < min(_LITTLE_DISK, room.total // 20):
        what = f"only {room.free >> 20} MB are free for builds in {scope.project}"
        yield Finding(what, "remove files there; .percore/build/ may go, and is made again", "disk")


def _about_versions() -> Iterator[Finding]:
    """Libraries that are older than what this version of percore was made for."""
    try:
        wanted = map(Requirement, importlib.metadata.requires("percore") or ())
        needed = [one for one in wanted if not one.marker or one.marker.evaluate({"extra": "deploy"})]
    except importlib.metadata.PackageNotFoundError:
        return
    for one in needed:
        try:
            found = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            found = ""
        if not found or not one.specifier.contains(found, prereleases=True):
            state = f"{one.name} {found} is here" if found else f"{one.name} is missing"
            advice = "pip install -U 'percore[deploy]', or in a checkout: ./run"
            yield Finding(f"{state}, and percore needs {one.name}{one.specifier}", advice, "versions")


def about_secrets(hosts: Sequence[Host]) -> Iterator[Finding]:
    """Encrypted values that no password opens here, each file once; a deploy would stop at them."""
    told: set[str] = set()
    for value in (value for host in hosts for value in _sealed_in(dict(host.plan.variables))):
        file = value.place.partition(":")[0]
        if file in told:
            continue
        try:
            open_sealed(value)
        except PercoreError as fault:
            told.add(file)
            where = f"{fault.where}: " if fault.where else ""
            yield Finding(f"{where}{fault.what}", fault.next or "see docs/how-to/secrets.md", "vault", ERROR)


def _sealed_in(value: Any) -> Iterator[Sealed]:
    if isinstance(value, Sealed):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _sealed_in(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _sealed_in(entry)
