"""Which hosts a pattern means: `web:db`, `web,db`, `all:&web`, `all:!db`, `web*`, `~web[0-9]`, `web[0:2]`, `@file`.

Terms count in this order, wherever they stand: plain ones, then `&`, then `!`. Only exclusions mean all hosts but those.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Iterable

from percore.common.bounds import compile_regex, read_file, regex_limit
from percore.deploy.command_line import to_type
from percore.deploy.inventory.model import ALL, Inventory
from percore.deploy.schema import suggest
from percore.errors import UsageError

_TERM = re.compile(r"(?:[^\s:\[\]]|\[[^\]]*\])+")
_SLICE = re.compile(r"(.+)\[(?:(-?\d{1,9})|(\d{1,9})[:-](\d{0,9}))\]")
_LONGEST = 10_000
_WILD = (".", "?", "*", "[")


def select(inventory: Inventory, pattern: str) -> list[str]:
    """The hosts that match, in inventory order. UsageError for a name that is neither a host nor a group, and for no host."""
    terms = split_pattern(pattern)
    if not terms:
        raise UsageError(f"'{pattern[:80]}' names no host or group", where="the pattern", next="all of them are: all")
    plain = [term for term in terms if term[0] not in "&!"]
    chosen = {host for term in plain or [ALL] for host in match_plain(inventory, term)}
    for term in terms:
        if term[0] == "&":
            chosen &= set(match_term(inventory, term[1:]))
    for term in terms:
        if term[0] == "!":
            chosen -= set(match_term(inventory, term[1:]))
    hosts = [host for host in inventory.hosts if host in chosen]
    if not hosts and inventory.hosts:
        raise UsageError(
            f"no host matches '{pattern}'", where=str(inventory.path), next=f"see them: {to_type('inventory')}"
        )
    return hosts


def split_pattern(pattern: str) -> list[str]:
    """The terms; one that begins with @ is replaced by the lines of that file."""
    terms: list[str] = []
    for term in _split(pattern):
        terms += _read_lines(term[1:]) if term.startswith("@") else [term]
    return terms


def match_plain(inventory: Inventory, term: str) -> list[str]:
    """As Ansible: of a host and a group of one name, a plain term means the host, and one with a sign the group."""
    return [term] if term in inventory.host_variables else match_term(inventory, term)


def match_term(inventory: Inventory, term: str) -> list[str]:
    """The hosts of one term, without its `&` or `!`, in the order in which a slice counts them."""
    sliced = None if term.startswith("~") else _SLICE.fullmatch(term)
    hosts = _matching(inventory, sliced[1] if sliced else term)
    if sliced is None or not hosts:
        return hosts
    if sliced[2] is not None:
        index = int(sliced[2])
        if not -len(hosts) <= index < len(hosts):
            raise UsageError(
                f"'{term}' is beyond its {len(hosts)} hosts", where=str(inventory.path), next="the first is [0]"
            )
        return [hosts[index]]
    return hosts[int(sliced[3]) : int(sliced[4]) + 1 if sliced[4] else None]


def _matching(inventory: Inventory, term: str) -> list[str]:
    matches = _matcher(term)
    with regex_limit(term):
        groups = [name for name in inventory.groups if matches(name)]
        is_pattern = term.startswith("~") or any(sign in term for sign in _WILD)
        hosts = [host for host in inventory.host_variables if matches(host)] if not groups or is_pattern else []
    found = [*(host for name in groups for host in inventory.hosts_of(name)), *hosts]
    if not found and not groups and not (term.startswith("~") or any(sign in term for sign in "?*[")):
        raise _unknown(inventory, term)
    return list(dict.fromkeys(found))


def _matcher(term: str) -> Callable[[str], object]:
    try:
        return compile_regex(term[1:] if term.startswith("~") else fnmatch.translate(term)).match
    except ValueError as error:
        raise UsageError(f"'{term[:80]}' is not a regular expression: {error}", where="the pattern") from None


def _unknown(inventory: Inventory, term: str) -> UsageError:
    known = [*inventory.host_variables, *inventory.groups]
    advice = suggest(term, known, f"see them: {to_type('inventory --env ENV')}")
    parts = _TERM.findall(term)
    if len(parts) > 1 and all(part.lstrip("&!") in known for part in parts):
        advice = "separate all terms by commas, or all by colons"
    return UsageError(f"no host or group is named '{term}'", where=str(inventory.path), next=advice)


def _split(pattern: str) -> list[str]:
    """At commas where there are any; else at colons, but for those of IPv6 addresses, ports and brackets."""
    if len(pattern) > _LONGEST:
        raise UsageError(
            f"it is longer than {_LONGEST} characters", where="the pattern", next="put it in a file: @FILE"
        )
    if "," in pattern:
        parts: Iterable[str] = pattern.split(",")
    elif _is_one_name(pattern):
        parts = [pattern]
    else:
        parts = _TERM.findall(pattern)
        if sum(map(len, parts)) < len(re.sub(r"[\s:]", "", pattern)):
            raise UsageError(f"a bracket in '{pattern[:80]}' has no partner", where="the pattern")
    return [part.strip() for part in parts if part.strip()]


def _is_one_name(pattern: str) -> bool:
    """A name with a port, or an IPv6 address: their colons separate nothing."""
    if re.fullmatch(r"[\w.-]+:\d+", pattern):
        return True
    try:
        ipaddress.IPv6Address(pattern)
    except ValueError:
        return False
    return True


def _read_lines(name: str) -> list[str]:
    try:
        lines = read_file(name).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"the limit file cannot be read: {reason}", where=ascii(name)[1:-1]) from None
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
