"""The operations of `invoke patch` on one host: upgrade, reboot, and prove that everything serves again."""

from __future__ import annotations

import subprocess
from typing import NamedTuple

from percore.common.typed import Line
from percore.errors import PreflightError, RolloutError
from percore.host.messages import TargetPaths
from percore.host.patching.packages import bring_in, find_upgrades
from percore.host.patching.restarts import reasons_to_reboot, units_with_replaced_code
from percore.host.release.running import find_missing
from percore.host.release.switch import Activation
from percore.host.release.target import Target
from percore.host.session import Session

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class PatchRequest(NamedTuple):
    """Upgrade packages; without an `owner`, only tell which. `security`: those of the security archive alone."""

    target: TargetPaths
    owner: Line = ""
    security: bool = False


class RebootRequest(NamedTuple):
    """Without an `owner`, only tell which boot this is."""

    target: TargetPaths
    owner: Line = ""


class ProveRequest(NamedTuple):
    target: TargetPaths


class PatchReply(NamedTuple):
    """`packages` as `name version`; `reboot` says why the host needs one; `units` use files that are gone."""

    packages: list[str]
    reboot: list[str]
    units: list[str]


class RebootReply(NamedTuple):
    """`boot` is another one after a reboot."""

    boot: str


class ProveReply(NamedTuple):
    missing: list[str]


def patch(session: Session, request: PatchRequest, target: Target) -> PatchReply:
    def say(text: str) -> None:
        session.emit({"event": "progress", "text": text})

    upgrades = find_upgrades(say, security=request.security, fresh=bool(request.owner))
    if request.owner and upgrades:
        session.take_lock(target, request.owner)
        say(f"upgrade {len(upgrades)} packages: {_shortened(list(map(str, upgrades)))}")
        bring_in(upgrades, say, security=request.security)
        _note(session, target, "patch", f"{len(upgrades)} packages upgraded")
    return PatchReply(list(map(str, upgrades)), reasons_to_reboot(), units_with_replaced_code())


def reboot(session: Session, request: RebootRequest, target: Target) -> RebootReply:
    """In a moment, so that the answer is heard first."""
    if not request.owner:
        return RebootReply(boot_id())
    session.take_lock(target, request.owner)
    if session.pending is not None:
        raise PreflightError("a change of this host is not confirmed yet", next="wait for it to end")
    found = boot_id()
    _note(session, target, "reboot", "asked for")
    try:
        subprocess.Popen(
            ["/bin/sh", "-c", "sleep 1; exec systemctl reboot"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise RolloutError(f"it cannot be rebooted: {error.strerror}", next="reboot it by hand") from None
    return RebootReply(found)


def prove(session: Session, request: ProveRequest, target: Target) -> ProveReply:
    """Every worker answers, and the way through NGINX. Raises RolloutError where one does not."""
    current = target.releases.current()
    if current is None:
        return ProveReply([])
    missing = find_missing(target.releases, current, target.status())
    if not missing:
        Activation(target.releases, target.supervisor, current, session.emit).check_now()
    return ProveReply(missing)


def boot_id() -> str:
    with open(_BOOT_ID) as file:
        return file.read().strip()


def _note(session: Session, target: Target, what: str, result: str) -> None:
    target.releases.history.add(
        who=session.owner, what=what, release=target.releases.current(), former=None, result=result
    )


def _shortened(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:10])} and {len(names) - 10} more"
