"""What the sites of NGINX on this host answer to, so that two of them do not want the same."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Optional

from percore.errors import PercoreError
from percore.host.files import read_file

NGINX = "/etc/nginx"
_DEEPEST = 8
_MOST_FILES = 1000
_TOKEN = re.compile(r"""\s+|\#[^\n]*|(?P<sign>[{};])|"(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>(?:\\.|[^'\\])*)'"""
                    r"""|(?P<word>(?:\\.|\$\{[^}]*\}|[^\s{};"'\\])(?:\\.|\$\{[^}]*\}|[^\s{};\\])*)""")  # fmt: skip
_HEADER = re.compile(r"# Written by percore for (\S+)\. ")
Directive = tuple[list[str], list["Directive"]]
"""Its words, and what is in its block."""


class ServerAddress(NamedTuple):
    """What a server block listens on."""

    address: str  # such as *:80
    is_default: bool


class ServerBlock(NamedTuple):
    places: frozenset[ServerAddress]
    names: frozenset[str]


class Clash(NamedTuple):
    """`name` is empty where two want to be the default server."""

    name: str
    address: str
    file: str


def servers_of(text: str) -> list[ServerBlock]:
    """Of a site, or of a whole configuration; what cannot be read has none."""
    return [_server(body) for words, body in _walk(_parse(text)) if words == ["server"]]


def find_clash(wanted: str, leaving: Collection[str]) -> Optional[Clash]:
    """The first of the sites that are enabled which wants what the site with this text wants; files in `leaving` go."""
    gone = {os.path.realpath(path) for path in leaving}
    servers = servers_of(wanted)
    for path in _files(os.path.join(NGINX, "nginx.conf")):
        if os.path.realpath(path) in gone:
            continue
        for other in servers_of(_text(path)):
            if found := next((clash for server in servers if (clash := _clash(server, other))), None):
                return Clash(*found, path)
    return None


def app_of(path: str) -> str:
    """The app that percore wrote the site for; empty for any other file."""
    found = _HEADER.search(_text(path)[:2000])
    return found[1] if found else ""


def _clash(one: ServerBlock, other: ServerBlock) -> Optional[tuple[str, str]]:
    both = {place.address for place in one.places} & {place.address for place in other.places}
    defaults = [{place.address for place in each.places if place.is_default} for each in (one, other)]
    for address in sorted(both):
        if all(address in each for each in defaults):
            return "", address
        # A name of no host, as the default server has it, decides nothing beside one.
        names = {name for name in one.names & other.names if name not in ("_", "") or not any(defaults)}
        if names:
            return min(names), address
    return None


def _server(body: Sequence[Directive]) -> ServerBlock:
    listens = [words[1:] for words, _ in body if words[0] == "listen" and len(words) > 1] or [["80"]]
    names = [name.lower() for words, _ in body if words[0] == "server_name" for name in words[1:]] or [""]
    places = (ServerAddress(_address(each[0]), "default_server" in each or "default" in each) for each in listens)
    return ServerBlock(frozenset(places), frozenset(names))


def _address(written: str) -> str:
    """`80`, `*:80` and `0.0.0.0:80` are one; an address without a port has port 80."""
    if written.startswith("unix:"):
        return written
    host, colon, port = written.rpartition(":")
    if not colon or written.endswith("]"):
        host, port = ("", written) if written.isdigit() else (written, "80")
    return f"{'*' if host in ('', '*', '0.0.0.0') else host.lower()}:{port}"


def _files(path: str, depth: int = 0) -> Iterator[str]:
    """The file and those that it includes outside of its servers, as NGINX finds them."""
    yield path
    if depth >= _DEEPEST:
        return
    for words, _ in _walk(_parse(_text(path)), leaves_out="server"):
        if words[0] == "include" and len(words) == 2:
            for each in sorted(glob.glob(os.path.join(NGINX, words[1])))[:_MOST_FILES]:
                yield from _files(each, depth + 1)


def _text(path: str) -> str:
    with contextlib.suppress(OSError, PercoreError):
        return read_file(path).decode(errors="replace")
    return ""


def _walk(directives: Sequence[Directive], leaves_out: str = "") -> Iterator[Directive]:
    for words, body in directives:
        yield words, body
        if words[0] != leaves_out:
            yield from _walk(body, leaves_out)


def _parse(text: str) -> list[Directive]:
    root: list[Directive] = []
    blocks, words = [root], []
    for found in _TOKEN.finditer(text):
        sign = found["sign"]
        if sign is None:
            word = next((found[kind] for kind in ("word", "double", "single") if found[kind] is not None), None)
            words += [] if word is None else [word]
        elif sign == "}":
            blocks[1:] = blocks[1:-1]
            words = []
        elif words:
            block: list[Directive] = []
            blocks[-1].append((words, block))
            words = []
            if sign == "{":
                blocks.append(block)
    return root
