"""Names of hosts as inventories write them: `web[01:03].example:2222` are three hosts and a port."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Iterator

from percore.errors import UsageError

_BRACKETED = re.compile(r"\[(.+)\]:(\d+)")
_WITH_PORT = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])+):(\d+)")
_RANGE = re.compile(r"\[([^\]]*)\]")
_NAME = re.compile(r"\w(?:[\w.-]*\w)?")
_IPV6 = re.compile(r"(?:[0-9a-fA-F:]|\[[^\]]*\])*(?:%\w+)?")
_MOST_HOSTS = 10_000  # in one written name
_LONGEST_WRITTEN = 1000
_MOST_DIGITS = 9


def parse_hosts(written: str, place: str) -> tuple[list[str], int | None]:
    """The hosts that one written name stands for, and the port behind it."""
    if len(written) > _LONGEST_WRITTEN:
        raise UsageError(f"{ascii(written)[:80]} is not the name of a host", where=place)
    found = _BRACKETED.fullmatch(written) or _WITH_PORT.fullmatch(written)
    name, port = (found[1], _port(found[2], written, place)) if found else (written, None)
    bare = _RANGE.sub("0", name)
    if not _IPV6.fullmatch(name) and (":" in bare or (port is not None and not _NAME.fullmatch(bare))):
        raise UsageError(f"'{written}' is not the name of a host", where=place, next="a port is written as name:22")
    hosts = list(itertools.islice(expand_range(name, place), _MOST_HOSTS + 1))
    if len(hosts) > _MOST_HOSTS:
        raise UsageError(f"'{name}' stands for more than {_MOST_HOSTS} hosts", where=place)
    return hosts, port


def _port(written: str, name: str, place: str) -> int:
    if len(written) > 5 or not 0 < int(written) < 1 << 16:
        raise UsageError(f"the port of '{name[:80]}' is not a number from 1 to 65535", where=place)
    return int(written)


def expand_range(name: str, place: str) -> Iterator[str]:
    """`[first:last:step]`: numbers, padded as the first one is, or letters; several per name."""
    found = _RANGE.search(name)
    if found is None:
        if "[" in name or "]" in name:
            raise UsageError(f"the bracket in '{name}' has no partner", where=place)
        yield name
        return
    for value in _values(found[1], name, place):
        yield from expand_range(name[: found.start()] + value + name[found.end() :], place)


def _values(written: str, name: str, place: str) -> list[str]:
    def refuse(what: str) -> UsageError:
        return UsageError(f"the range in '{name}' {what}", where=place, next="write it as [1:9], [01:09:2] or [a:f]")

    first, *rest = written.split(":")
    if not 1 <= len(rest) <= 2 or not rest[0]:
        raise refuse("needs a first and a last value")
    first, last, step = first or "0", rest[0], rest[1] if len(rest) == 2 else "1"
    if not (step.isdecimal() and len(step) <= _MOST_DIGITS and int(step) > 0):
        raise refuse("needs a step of 1 or more")
    letters = string.ascii_letters
    if max(map(len, (first, last, step))) > _MOST_DIGITS:
        raise refuse(f"has a number of more than {_MOST_DIGITS} digits")
    if first.isdecimal() and last.isdecimal():
        if int(last) - int(first) >= _MOST_HOSTS * int(step):
            raise refuse(f"stands for more than {_MOST_HOSTS} hosts")
        is_padded = first.startswith("0") and len(first) > 1
        if is_padded and len(last) != len(first):
            raise refuse("has ends of different lengths")
        values = [str(n).zfill(len(first) if is_padded else 0) for n in range(int(first), int(last) + 1, int(step))]
    elif len(first) == len(last) == 1 and first in letters and last in letters:
        values = list(letters[letters.index(first) : letters.index(last) + 1 : int(step)])
    else:
        raise refuse("needs two numbers or two letters")
    if not values:
        raise refuse("is empty")
    return values
