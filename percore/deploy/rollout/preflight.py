"""What cannot work is refused before anything is touched, with the arithmetic."""

from __future__ import annotations

import functools
import json
import platform
import re
import shlex
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tomllib
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from percore.common.app_names import DEFAULT_NAMESPACE, full_name
from percore.deploy.build.artifact import Artifact
from percore.deploy.connection.messages import AppStatus, Inspected, Ports
from percore.deploy.plan.host_state import HostState
from percore.deploy.report import Report
from percore.deploy.rollout.choose import Choice
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.parallel import all_or_stop, stop_at
from percore.errors import PercoreError, PreflightError
from percore.host.projects.placed_files import files_of
from percore.host.release.transfer.parts import SPARE_BYTES

SPARE_INODES = 1000
MOST_SITE_CHARACTERS = 100_000
SPARE_MEMORY = 64 * 1024 * 1024
"""Left to other programs while two generations of a worker run at once."""


def preflight(choices: Sequence[Choice], report: Report) -> None:
    first = choices[0]
    report.phase("check", f"release {first.release}" + (f": {first.reason}" if first.reason else ""))
    found = all_or_stop(choices, _ask_others, report)
    pairs = zip(choices, found, strict=True)
    stop_at({choice.name: fault for choice, others in pairs if (fault := refusal(choice, others))}, report)


def _ask_others(choice: Choice) -> Ports:
    """What other programs and projects have of what this one needs."""
    settings, wanted = choice.host.settings, choice.seen.wanted
    of_site = settings.site.ports if settings.site else ()
    ports = [*_app_ports(choice.host), *of_site] if wanted.app else []
    apps = wanted.app.record["apps"] if wanted.app else []
    reply: Ports = choice.host.ask(
        "ports",
        ports=ports,
        apps=[_full_name_of(app) for app in apps if app["name"] not in choice.host.absent_apps],
        files=files_of([*wanted.selected.before, *wanted.selected.after]),
        sites=[_site_wish(spec, wanted.selected) for spec in wanted.selected.after if spec["kind"] == "site"],
    )
    return reply


def _full_name_of(app: Mapping[str, Any]) -> str:
    return full_name(app["name"], app.get("namespace", DEFAULT_NAMESPACE))


def _site_wish(spec: Mapping[str, Any], state: HostState) -> dict[str, Any]:
    content = state.files[spec["sha256"]].decode(errors="replace")[:MOST_SITE_CHARACTERS]
    return {"path": spec["path"], "link": spec["link"], "content": content, "leaving": spec.get("without", [])}


def _app_ports(host: Host) -> list[int]:
    """One, or one for each worker."""
    port, site = host.settings.port, host.settings.site
    if port and site and site.upstream == "per_worker":
        return site.worker_ports(port, host.agent.facts)
    return [port] if port else []


def refusal(choice: Choice, others: Ports) -> PercoreError | None:
    """Why this host cannot go to the release."""
    app = choice.seen.wanted.app
    for conflict in others.get("conflicts", []):
        return PreflightError(conflict["what"], where=choice.name, next=conflict["next"])
    if app is None:
        return None
    port_owners = others["strangers"]
    at_once = {each["name"]: each.get("reload_workers", 1) for each in app.record.get("apps", [])}
    case = _Case(choice.host, app.artifact, choice.seen.reply, choice.is_staged, port_owners, at_once)
    for check in (_programs, _ports, _disk, _inodes, _memory, _architecture, _clock):
        refused = check(case)
        if refused:
            what, advice = refused
            return PreflightError(what, where=choice.name, next=advice)
    return None


class _Case(NamedTuple):
    """What the checks of one host look at."""

    host: Host
    artifact: Artifact
    seen: Inspected
    is_staged: bool
    port_owners: Mapping[str, str]
    reload_workers: Mapping[str, int]  # by app


Refused = tuple[str, str] | None
"""What is wrong, and what to do about it."""


def _programs(case: _Case) -> Refused:
    node = case.seen["versions"].get("node", "")
    login = case.host.agent.facts.get("node")
    if case.artifact.is_node and not node and login:
        return (
            f"Node.js is in the PATH of a login there ({login}) and not in that of services",
            f"set roles: [node, app], or on the host: ln -s {shlex.quote(login)} /usr/local/bin/node",
        )
    if case.artifact.is_node and not node:
        return "Node.js is missing there", "set roles: [node, app], or apt-get install -y nodejs on the host"
    wanted = declared_node(case.artifact)
    if wanted and node and not satisfies_node(node, wanted):
        return (
            f"it has Node {node}, and package.json asks for {wanted}",
            "set node_version and roles: [node, app], install such a Node there, or change 'engines'",
        )
    python = case.host.agent.facts["python"]
    wanted = declared_python(case.artifact)
    if wanted and not satisfies_python(python, wanted):
        return f"it has Python {python}, and pyproject.toml asks for {wanted}", "install such a Python there"
    return None


def _ports(case: _Case) -> Refused:
    settings = case.host.settings
    for port, owner in case.port_owners.items():
        if int(port) in _app_ports(case.host):
            return f"port {port} is in use by {owner}", "stop it there, or set another 'port'"
        if not owner.startswith("nginx "):
            name = "nginx_tls_port" if settings.site and int(port) != settings.site.port else "nginx_port"
            return f"port {port} is in use by {owner}", f"stop it there, or set another '{name}'"
    return None


def _disk(case: _Case) -> Refused:
    needed = 0 if case.is_staged else case.artifact.bytes + case.artifact.unpacked_bytes + SPARE_BYTES
    free = case.seen["disk_free_bytes"]
    if free >= needed:
        return None
    return (
        f"not enough disk space below {case.host.settings.deploy_to}: {_mb(needed)} needed "
        f"({_mb(needed - SPARE_BYTES)} for the release and its archive, {_mb(SPARE_BYTES)} to spare), {_mb(free)} free",
        "make room there, or lower keep_releases, then deploy again",
    )


def _inodes(case: _Case) -> Refused:
    free = case.seen["inodes_free"]
    if case.is_staged or free is None:
        return None
    files = len(_member_names(case.artifact))
    if free >= files + SPARE_INODES:
        return None
    return (
        f"not enough inodes below {case.host.settings.deploy_to}: {files + SPARE_INODES} needed ({files} files of the release, "
        f"{SPARE_INODES} to spare), {free} free",
        "remove files there, or lower keep_releases, then deploy again",
    )


def _memory(case: _Case) -> Refused:
    """A reload goes worker by worker: beside all that run there are for a moment some more, `reload_workers` of an app."""
    apps = [app for app in case.seen["status"]["apps"] if app["mode"] == "cluster"]
    more, largest = max((_overlap(case, app) for app in apps), default=(0, 0), key=lambda pair: pair[0] * pair[1])
    needed, free = more * largest + SPARE_MEMORY, case.seen["memory_free_bytes"]
    if free is None or not largest or free >= needed:
        return None
    of_largest = "one more of its largest worker" if more == 1 else f"{more} more of its largest worker"
    return (
        f"not enough memory for the overlap: {_mb(needed)} needed ({_mb(more * largest)} for {of_largest}, "
        f"{_mb(SPARE_MEMORY)} to spare), {_mb(free)} available",
        "stop something there, lower 'reload_workers' or 'instances', or add memory",
    )


def _overlap(case: _Case, app: AppStatus) -> tuple[int, int]:
    """How many workers of the app there are besides, and the memory of its largest."""
    at_once = case.reload_workers.get(app.get("name", ""), 1)
    count = min(at_once, max(1, len(app["workers"]) - 1))
    return count, max((worker["memory_bytes"] for worker in app["workers"]), default=0)


def _architecture(case: _Case) -> Refused:
    facts = case.host.agent.facts
    ours = (platform.system(), platform.machine())
    native = any(name.endswith((".node", ".so")) for name in _member_names(case.artifact))
    if (facts["system"], facts["machine"]) == ours or not native:
        return None
    return (
        f"the host is {facts['machine']}, and the app has native modules built for {platform.machine()}",
        "deploy from a machine of that kind",
    )


def _clock(case: _Case) -> Refused:
    skew = case.host.agent.clock_skew
    if abs(skew) <= case.host.settings.max_clock_skew_seconds:
        return None
    way = "ahead of" if skew > 0 else "behind"
    return (
        f"its clock is {abs(skew):.0f} s {way} ours (more than {case.host.settings.max_clock_skew_seconds:g} s)",
        "set it there (systemd-timesyncd or chrony), or raise max_clock_skew_seconds",
    )


# -- what the app declares -------------------------------------------------------------------------------------------


def declared_node(artifact: Artifact) -> str:
    """`engines.node` of package.json; empty when there is none, or none that can be read."""
    from semantic_version import NpmSpec

    try:
        package = json.loads((artifact.tree / "package.json").read_text(encoding="utf-8"))
        wanted = str(package["engines"]["node"])
        NpmSpec(_plain_range(wanted))
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return wanted


def declared_python(artifact: Artifact) -> str:
    """`requires-python` of pyproject.toml; empty when there is none, or none that can be read."""
    try:
        wanted = str(
            tomllib.loads((artifact.tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
        )
        SpecifierSet(wanted)
    except (OSError, ValueError, KeyError, TypeError, InvalidSpecifier):
        return ""
    return wanted


def satisfies_node(version: str, wanted: str) -> bool:
    """As npm does for `engines`: of a nightly build the numbers count."""
    from semantic_version import NpmSpec, Version

    found = re.match(r"[0-9]+(\.[0-9]+){0,2}", version)
    return found is not None and bool(NpmSpec(_plain_range(wanted)).match(Version.coerce(found[0])))


def satisfies_python(version: str, wanted: str) -> bool:
    """A Python built from source may call itself `3.14.0+`, which cannot be compared."""
    found = re.match(r"[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?", version)
    return found is not None and SpecifierSet(wanted).contains(found[0], prereleases=True)


def _plain_range(wanted: str) -> str:
    """npm allows a blank after the sign: `>= 18`."""
    return re.sub(r"([<>=~^])\s+", r"\1", wanted.strip())


@functools.cache
def _names_in(path: str) -> tuple[str, ...]:
    with tarfile.open(path) as tar:
        return tuple(tar.getnames())


def _member_names(artifact: Artifact) -> tuple[str, ...]:
    return _names_in(str(artifact.path))


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
