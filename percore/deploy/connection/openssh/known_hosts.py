"""`known_hosts` as sshd(8) describes it: patterns, hashed names, markers. Pure but for reading the files."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import functools
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from percore.common.bounds import read_file
from percore.deploy.yaml_files import FileStamp, stamp_of

_HASHED = "|1|"


@dataclass(frozen=True)
class KnownKey:
    """One key. `marker` is empty, `@cert-authority` or `@revoked`."""

    marker: str
    names: str
    kind: str
    key: bytes
    place: str


@dataclass
class Known:
    """What the files say of one host."""

    keys: dict[str, list[bytes]] = field(default_factory=dict)  # by kind: any of them may be its own
    elsewhere: dict[str, list[bytes]] = field(default_factory=dict)  # of its name without a port: others are no change
    authorities: set[bytes] = field(default_factory=set)  # whose certificates are trusted
    revoked: set[bytes] = field(default_factory=set)
    passed_over: list[str] = field(default_factory=list)  # lines that cannot be read

    def judge(self, key: bytes) -> str:
        """`known`, `revoked`, `changed` (others are known, and this one is not), or `unknown`."""
        if key in self.revoked:
            return "revoked"
        if any(key in keys for keys in [*self.keys.values(), *self.elsewhere.values()]):
            return "known"
        return "changed" if self.keys else "unknown"


def find_known(paths: Iterable[str], name: str, bare_name: str = "") -> Known:
    """The keys of `name`, a host or `[host]:port`, and where it has none, of `bare_name`. A revoked one is none of them."""
    known = Known()
    for file in (_read(path, stamp_of(path)) for path in paths):
        known.passed_over += file.passed_over
        for line in file.candidates(name.lower(), bare_name.lower()):
            if names_match(line.names, name):
                _add(known, known.keys, line)
            elif bare_name and names_match(line.names, bare_name):
                _add(known, known.elsewhere, line)
    if known.keys:
        known.elsewhere.clear()
    return known


def _add(known: Known, keys: dict[str, list[bytes]], line: KnownKey) -> None:
    if line.marker == "@revoked":
        known.revoked.add(line.key)
    elif line.marker:
        known.authorities.add(line.key)
    else:
        keys.setdefault(line.kind, []).append(line.key)


def names_match(written: str, name: str) -> bool:
    """Names separated by commas, with * and ?, of which one after `!` excludes; or one hashed name."""
    if written.startswith(_HASHED):
        return _hash_matches(written, name)
    patterns = [pattern.lower() for pattern in written.split(",") if pattern]
    lowered = name.lower()
    if any(_matches(pattern[1:], lowered) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(_matches(pattern, lowered) for pattern in patterns if not pattern.startswith("!"))


def _matches(pattern: str, name: str) -> bool:
    # Brackets enclose a host that has a port; they are no set of characters here.
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _hash_matches(written: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in written[len(_HASHED) :].split("|"))
    except ValueError:
        return False
    return hmac.compare_digest(hmac.new(salt, name.lower().encode(), hashlib.sha1).digest(), digest)


class _KnownFile:
    """One file. A line that names hosts plainly is found by their names: hundreds of hosts look at hundreds of lines."""

    def __init__(self, lines: Iterable[KnownKey | str]) -> None:
        self.passed_over: list[str] = []
        self._lines: list[KnownKey] = []
        self._by_name: dict[str, list[int]] = {}  # positions; under "" those of which each must be looked at
        for line in lines:
            if isinstance(line, str):
                self.passed_over.append(line)
                continue
            for name in [""] if set(line.names) & set("|*?!") else line.names.lower().split(","):
                self._by_name.setdefault(name, []).append(len(self._lines))
            self._lines.append(line)

    def candidates(self, *names: str) -> Iterator[KnownKey]:
        found = {position for name in ("", *names) for position in self._by_name.get(name, ())}
        return (self._lines[position] for position in sorted(found))


@functools.lru_cache(maxsize=8)
def _read(path: str, stamp: FileStamp) -> _KnownFile:
    """Once for all hosts; with another `stamp` it is another file."""
    return _KnownFile(_lines(path))


def _lines(path: str) -> Iterator[KnownKey | str]:
    """Each line that holds a key; of what cannot be read, a sentence."""
    try:
        text = "" if path == os.devnull else read_file(path).decode(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        yield f"{path} cannot be read: {error.strerror}"
        return
    for number, written in enumerate(text.split("\n"), 1):
        words = written.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else ""
        try:
            names, kind, key = words[0], words[1], base64.b64decode(words[2], validate=True)
        except (IndexError, binascii.Error, ValueError):
            yield f"{path}:{number} cannot be read"
            continue
        if marker not in ("", "@cert-authority", "@revoked"):
            yield f"{path}:{number} has the marker {ascii(marker)[:40]}, which is not known"
            continue
        yield KnownKey(marker, names, kind, key, f"{path}:{number}")
