"""The names that become paths: one pattern for each kind, wherever such a name comes from. Shared by all parts."""

from __future__ import annotations

import re

from percore.common.typing import Any
from percore.errors import UsageError

UNIT = "percore.service"
"""The supervisor's, on a host that was deployed to."""

RELEASE_ID = re.compile(r"[0-9]{14}-[0-9a-f]{8}")
"""UTC time and the beginning of the artifact's hash."""


def is_release_id(value: Any) -> bool:
    return isinstance(value, str) and RELEASE_ID.fullmatch(value) is not None


def require_release_id(value: Any, *, where: str = "") -> str:
    """The id itself; UsageError for everything else, since a release's id becomes a path."""
    if isinstance(value, str) and is_release_id(value):
        return value
    raise UsageError(
        f"{ascii(value)[:80]} is not a release id", where=where, next="an id looks like 20260131120000-0a1b2c3d"
    )


PATH_WORD = "at most 100 letters of a to z, digits and . _ -, not beginning with . or -"


def is_path_word(value: str) -> bool:
    """True for a name that can be one component of a path, and a word in a unit, a shell or NGINX's configuration."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", value) is not None


def is_absolute_path(value: str) -> bool:
    """True for a path from / on that leads where it says, other than / itself."""
    return value.startswith("/") and value.strip("/") != "" and value.isprintable() and ".." not in value.split("/")


def is_inner_path(value: str) -> bool:
    """True for a path that stays in the directory it is relative to."""
    return value.isprintable() and not value.startswith("/") and ".." not in value.split("/") and len(value) < 1000


def is_plain_inner_path(value: str) -> bool:
    """True for directories in a directory, of characters that mean nothing in a pattern; not what is percore's own."""
    parts = value.split("/")
    plain = re.fullmatch(r"[\w.@+-]+(/[\w.@+-]+){0,20}", value) is not None and len(value) < 1000
    return plain and not {".", ".."} & {*parts} and not parts[0].startswith(".percore")


def is_safe_path(value: str) -> bool:
    """True for an absolute path without `..`, and without a character that means something in a unit, a shell or NGINX."""
    parts = value.split("/")
    return value.startswith("/") and ".." not in parts and re.fullmatch(r"[\w./@+:~-]{1,1000}", value) is not None


def is_user_name(value: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", value) is not None


def is_server_name(value: str) -> bool:
    """Names of a site as NGINX takes them, separated by blanks; nothing that would end the directive."""
    return re.fullmatch(r"[^\x00-\x1f\x7f;{}\"'#`]{1,1000}", value) is not None


def first_host(server_name: str) -> str:
    """A name by which NGINX finds this site: the first one that is no regular expression; empty where there is none."""
    for name in server_name.split():
        if name not in ("_", "*") and not name.startswith("~"):
            return ("www" + name[1:] if name.startswith("*.") else name.lstrip(".")).replace(".*", ".example")
    return ""


def is_ssh_host(value: str) -> bool:
    """True for what OpenSSH's client, from 9.6 on, takes as a host: nothing that a shell, or ssh itself, takes for more."""
    return re.fullmatch(r"(?!-)[^\x00-\x20\x7f-\xa0'\"`$\\;&<>|(){}]{1,255}", value) is not None


def is_ssh_user(value: str) -> bool:
    """The same of a user, whose name may hold more: a backslash behind a domain, a blank, but none before a dash."""
    text = re.fullmatch(r"(?!-)[^\x00-\x1f\x7f-\x9f'\"`;&<>|(){}]{1,255}", value) is not None
    return text and " -" not in value and not value.endswith("\\")


def variable_fault(name: Any, value: Any = "") -> str:
    """Why no program can be given this environment variable; empty when it can."""
    if not isinstance(name, str) or not name or re.search(r"[=\0\ud800-\udfff]", name):
        return f"{ascii(name)[:80]} cannot be the name of an environment variable"
    if isinstance(value, str) and re.search(r"[\0\ud800-\udfff]", value):
        return f"the value of '{name}' contains a zero byte or is not UTF-8 text"
    return ""
