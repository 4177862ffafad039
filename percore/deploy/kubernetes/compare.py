"""How two sets of manifests differ in what they mean: objects that come and go, and fields by their paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from percore.deploy.hand_off.files import Files
from percore.errors import shown

_OWN_NAME = ("name", "mountPath", "path", "key", "topologyKey", "host")
"""What tells an entry of a list from others, whatever its place."""

_BY_CONTENT = re.compile(r"(?<=-env)-[0-9a-f]{10}$")
_BY_RELEASE = re.compile(r"-[0-9]{14}-[0-9a-f]{8}(-[0-9a-f]{6})?$")

OWN = "Kustomization"
"""It lists the files."""

Objects = dict[str, Any]


def changes(old: Files, new: Files) -> list[str]:
    """`+ Service api`, `~ Deployment api: spec.replicas 2 -> 3`. Values of a Secret are never shown."""
    before, after = read_objects(old), read_objects(new)
    found = [f"- {name}" for name in before if name not in after]
    found += [f"+ {name}" for name in after if name not in before]
    for name in after:
        if name in before:
            found += [
                f"~ {name}: {text}" for text in _fields(before[name], after[name], is_secret=name.startswith("Secret "))
            ]
    return found


_STAYING = ("ConfigMap", "Job", "Namespace", "Secret")
"""Kinds that do no harm: former pods need theirs, and a Job goes by itself."""

_FIXED = {
    "Deployment": ("selector",),
    "StatefulSet": ("selector", "serviceName", "podManagementPolicy", "revisionHistoryLimit"),
}
"""Fields of `spec` that a server does not change, some of them only before 1.33."""


def left_in_cluster(old: Files, new: Files) -> list[str]:
    """What to type for objects that are not written any more, or are in another namespace: `kubectl apply` leaves them."""
    before, after = read_objects(old), read_objects(new)
    gone = [each for name, each in before.items() if name not in after or _space(each) != _space(after[name])]
    by_space: dict[str, list[Any]] = {}
    for each in gone:
        if each["kind"] not in _STAYING and "name" in _meta(each):
            by_space.setdefault(_space(each), []).append(each)
    return [
        f"kubectl apply deletes nothing: {', '.join(map(_title, those))}"
        f" -> kubectl delete --namespace {space} {' '.join(map(_address, those))}"
        for space, those in by_space.items()
    ]


def refused(old: Files, new: Files) -> list[str]:
    """What a server would refuse to change, with what to type before."""
    before, after = read_objects(old), read_objects(new)
    return [
        f"{name}: spec.{field} cannot be changed -> kubectl delete --namespace {_space(each)} {_address(each)}, then apply"
        for name, each in after.items()
        for field in _FIXED.get(each["kind"], ())
        if name in before
        and _space(before[name]) == _space(each)
        and before[name].get("spec", {}).get(field) != each["spec"].get(field)
    ]


def _title(each: Any) -> str:
    return f"{each['kind']} {_meta(each)['name']}"


def _meta(each: Any) -> Any:
    """Empty where somebody wrote into the file."""
    found = each.get("metadata")
    return found if isinstance(found, dict) else {}


def _space(each: Any) -> str:
    return str(_meta(each).get("namespace", ""))


def _address(each: Any) -> str:
    return f"{each['kind'].lower()}/{_meta(each)['name']}"


def read_objects(files: Files) -> Objects:
    """By kind and name; the hash of a ConfigMap and the release of a Job are no part of what it is. Not YAML: none."""
    found: Objects = {}
    for name in sorted(files):
        if name.endswith(".yaml"):
            for each in _documents(files[name]):
                found[f"{each['kind']} {_name_of(each, name)}"] = each
    return found


def _documents(content: bytes) -> list[Any]:
    try:
        return [each for each in yaml.safe_load_all(content) if isinstance(each, dict) and each.get("kind", OWN) != OWN]
    except yaml.YAMLError:  # somebody wrote into it
        return []


def _name_of(each: Any, file: str) -> str:
    name = str(_meta(each).get("name", file))
    return _BY_RELEASE.sub("", _BY_CONTENT.sub("", name))


def _fields(old: Any, new: Any, *, is_secret: bool) -> Iterator[str]:
    before, after = dict(_flatten(old, "")), dict(_flatten(new, ""))
    for path in dict.fromkeys([*before, *after]):
        if before.get(path) == after.get(path):
            continue
        if is_secret and path.startswith(("stringData", "data")):
            yield f"{path} {'is new' if path not in before else 'goes' if path not in after else 'is another one'}"
        else:
            yield f"{path} {_told(before, path)} -> {_told(after, path)}"


def _told(values: Mapping[str, Any], path: str) -> str:
    return shown(values[path]) if path in values else "(nothing)"


def _flatten(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from _flatten(entry, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for at, entry in zip(_places(value), value, strict=True):
            yield from _flatten(entry, f"{path}[{at}]")
    else:
        yield path, value


def _places(entries: list[Any]) -> list[str]:
    for key in _OWN_NAME:
        names = [entry.get(key) if isinstance(entry, dict) else None for entry in entries]
        if all(isinstance(name, str) for name in names) and len({*names}) == len(names):
            return list(map(str, names))
    return list(map(str, range(len(entries))))
