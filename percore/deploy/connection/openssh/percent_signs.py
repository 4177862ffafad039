"""Paths and commands of a configuration: `~`, `%h` and its like, and `${VARIABLE}`, as ssh_config(5) describes them."""

from __future__ import annotations

import functools
import getpass
import os
import re
import shlex
import socket
from collections.abc import Iterable, Mapping


def expand_all(written: Iterable[str], signs: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(expand(path, signs) for path in written if path not in ("", "none")))


def split_paths(written: str) -> list[str]:
    """`ssh -G` quotes nothing: a blank within a path is one that no further path follows."""
    paths = re.split(r" (?=[/~%$]|none\b|[A-Za-z]:|__)", written)
    return [part for path in paths for part in ([path] if path[:1] in "/~%$" else path.split())]


def percent_signs(name: str, host: str, port: int, user: str, known_as: str) -> dict[str, str]:
    """The percent signs of ssh_config(5) in a path; `name` is the host as it was asked for."""
    ours = socket.gethostname()
    return {
        "%": "%",
        "d": os.path.expanduser("~"),
        "h": host,
        "i": str(_uid()),
        "k": known_as or name,
        "l": ours,
        "L": ours.partition(".")[0],
        "n": name,
        "p": str(port),
        "r": user,
        "u": getpass.getuser(),
    }


def expand(path: str, signs: Mapping[str, str]) -> str:
    """`~`, percent signs, and `${VARIABLE}` of our environment; what is not set stays."""
    with_environment = re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], found[0]), path)
    return os.path.expanduser(fill(with_environment, signs))


def quoted(**values: str) -> dict[str, str]:
    """For the shell that runs a ProxyCommand: whatever these hold, each is one word of it, or a part of one."""
    return {"%": "%", **{sign: shlex.quote(value) for sign, value in values.items()}}


def fill(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"%(.)", lambda found: values.get(found[1], found[0]), text)


@functools.cache
def _uid() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0
