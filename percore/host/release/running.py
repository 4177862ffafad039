"""What a release says that should run, beside what does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional

from percore.common.app_names import DEFAULT_NAMESPACE, full_name, selector_of
from percore.common.records.hashes import record_hashes
from percore.common.worker_status import is_job, is_wanted, shortage_of
from percore.host.files import read_file
from percore.host.ports import ports_of
from percore.host.release.releases import Releases

Record = Mapping[str, Any]


def find_missing(releases: Releases, release: Optional[str], status: Mapping[str, Any]) -> list[str]:
    """What should run of the release and does not."""
    return [] if release is None else list(_missing(_read(releases, release), status))


def find_deviations(releases: Releases, release: Optional[str], status: Mapping[str, Any]) -> list[str]:
    """Everything that does not run as the release says."""
    if release is None:
        return []
    record = _read(releases, release)
    return [*_missing(record, status), *_differing(record, status, release)]


def app_names(releases: Releases) -> list[str]:
    """Those of the release that runs."""
    current = releases.current()
    return [app["name"] for app in _read(releases, current)["apps"]] if current else []


def own_part(releases: Releases, status: Mapping[str, Any]) -> dict[str, Any]:
    """A status without the apps of other projects, which share the supervisor; each app by the name in its release."""
    return {**status, "apps": [_as_named(releases, app) for app in status["apps"] if not is_foreign(releases, app)]}


def _as_named(releases: Releases, app: dict[str, Any]) -> dict[str, Any]:
    """The supervisor keeps the name by which it knew an app of a namespace, when another one of that name came."""
    namespace, release = app.get("namespace", DEFAULT_NAMESPACE), app.get("release") or ""
    full = full_name(app["name"], namespace)
    if not releases.exists(release) or (namespace == DEFAULT_NAMESPACE and app["name"] != full):
        return app
    named = (each["name"] for each in _read(releases, release)["apps"] if full_name_of(each) == full)
    return {**app, "name": next(named, app["name"])}


def full_name_of(app: Mapping[str, Any]) -> str:
    return full_name(app["name"], app.get("namespace", DEFAULT_NAMESPACE))


def selectors(releases: Releases, names: Iterable[str], apps: Sequence[Record]) -> list[str]:
    """What the supervisor is to be told so that it means these apps of the release, and none of another project."""
    own = {app["name"]: app for app in own_part(releases, {"apps": apps})["apps"]}
    return [selector_of(own[name], apps) if name in own else name for name in names]


def is_by_hand(app: Mapping[str, Any]) -> bool:
    """Nobody deployed it."""
    return not ({app.get("release"), *(worker["release"] for worker in app["workers"])} - {None, ""})


def is_foreign(releases: Releases, app: Mapping[str, Any]) -> bool:
    """Another project deployed it. An older supervisor does not say from where; the releases tell as well."""
    deployed = {app.get("release"), *(worker["release"] for worker in app["workers"])} - {None, ""}
    if not deployed or not deployed.isdisjoint(releases.names()):
        return False
    return bool(app.get("source") != os.path.abspath(releases.deploy_to))


def ports_of_app(app: Mapping[str, Any]) -> set[int]:
    """Those on which its workers listen, together or each by itself, and the one that it will have when it starts again."""
    ends = [address.rpartition(":")[2] for address in app.get("addresses", ()) if not address.startswith("/")]
    own = ports_of(worker["pid"] for worker in app["workers"] if worker.get("pid"))
    return {*(int(end) for end in ends if end.isdecimal()), *own, *filter(None, [app.get("port")])}


def apps_told(releases: Releases, release: str, port: int) -> set[str]:
    """The names of the apps of the release whose PORT it is."""
    return {app["name"] for app in _read(releases, release)["apps"] if app.get("env", {}).get("PORT") == str(port)}


def _read(releases: Releases, release: str) -> Record:
    record: Record = json.loads(read_file(releases.record_path(release)))
    return record


def _missing(record: Record, status: Mapping[str, Any]) -> Iterator[str]:
    known = {app["name"]: app for app in status["apps"]}
    for name in (app["name"] for app in record["apps"]):
        found = known.get(name)
        if found is None:
            yield f"app {name} does not run"
        elif not is_wanted(found):
            yield f"job {name} is not scheduled" if is_job(found) else f"app {name} is stopped"
        elif shortage := shortage_of(found):
            yield shortage


def _differing(record: Record, status: Mapping[str, Any], release: str) -> Iterator[str]:
    expected = {app["name"]: app for app in record["apps"]}
    for found in status["apps"]:
        app = expected.get(found["name"])
        if app is None:
            yield f"app {found['name']} runs, and the release does not have it"
        elif not is_job(found):  # what runs of a job may be of an earlier release
            yield from _differing_app(found, app, release)


def _differing_app(found: Mapping[str, Any], app: Record, release: str) -> Iterator[str]:
    name, count = found["name"], app.get("instances", 1)
    if isinstance(count, int) and count > 0 and found["wanted"] not in (0, count):
        yield f"{name} has {found['wanted']} workers, and {count} in the release"
    config_hash, env_hash = record_hashes(app)
    for worker in found["workers"]:
        title = f"{name} worker {worker['slot']} (pid {worker['pid']})"
        if worker["release"] != release:
            yield f"{title} runs release {worker['release'] or 'none'}"
        elif worker.get("config_hash", config_hash) != config_hash:
            yield f"{title} runs with another configuration"
        elif worker.get("env_hash", env_hash) != env_hash:
            yield f"{title} runs with other variables"
