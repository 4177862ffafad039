"""What an app is called, and selected by: a namespace and a name make it. Shared by all parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from percore.common.typing import Any

DEFAULT_NAMESPACE = "default"


def plain_name(name: str, namespace: str) -> str:
    """As its process file calls the app. Where that name was taken by one of another namespace, it is known by the full one."""
    return name[len(namespace) + 1 :] if name.startswith(f"{namespace}:") and name != f"{namespace}:" else name


def full_name(name: str, namespace: str) -> str:
    """What no other app is called."""
    return f"{namespace}:{plain_name(name, namespace)}"


def names_of(name: str, namespace: str) -> tuple[str, str]:
    """By which it is selected."""
    return plain_name(name, namespace), full_name(name, namespace)


def is_same_app(one: Mapping[str, Any], running: Mapping[str, Any]) -> bool:
    """An older supervisor does not say in which namespace an app runs."""
    namespace = one.get("namespace", DEFAULT_NAMESPACE)
    return full_name(one["name"], namespace) == full_name(running["name"], running.get("namespace", namespace))


def selector_of(app: Mapping[str, Any], apps: Iterable[Mapping[str, Any]]) -> str:
    """What selects this app and none of the others. Supervisors that have no two of one name may not know full names."""

    def names(each: Mapping[str, Any]) -> tuple[str, str]:
        return names_of(each["name"], each.get("namespace", DEFAULT_NAMESPACE))

    plain, full = names(app)
    is_shared = any(other == plain and other_full != full for other, other_full in map(names, apps))
    return full if is_shared else str(app["name"])
