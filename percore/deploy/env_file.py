"""Env files such as `.env.production`: NAME=VALUE lines with comments, quotes and `export`, as dotenv reads them."""

from __future__ import annotations

import re
from pathlib import Path

from percore.errors import UsageError

_LINE = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_][\w.-]*)\s*=[^\S\n]*
        (?:'(?P<raw>[^']*)'|"(?P<quoted>(?:\\.|[^"\\])*)"|(?P<bare>(?!['"])[^\n]*))
        [^\S\n]*(?:\#[^\n]*)?""",
    re.VERBOSE | re.DOTALL,
)
HASH_INSIDE = re.compile(r"^[^#]*[^\s#]#")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def read_env_file(path: Path) -> dict[str, str]:
    """Raises UsageError with file and line for a line that is none of those, and for a name written twice."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the env file cannot be read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError:
        raise UsageError("the env file is not UTF-8 text", where=str(path)) from None
    return parse_env(text, str(path))


def parse_env(text: str, name: str) -> dict[str, str]:
    """Values are taken as they are: nothing in them is expanded. Quoted ones may go over several lines."""

    def place(index: int) -> str:
        return f"{name}:{text.count(chr(10), 0, index) + 1}"

    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        end = text.find("\n", position)
        line = text[position : len(text) if end < 0 else end].strip()
        if not line or line.startswith("#"):
            position = len(text) if end < 0 else end + 1
            continue
        match = _LINE.match(text, position)
        after = match.end() if match else position
        if match is None or text[after : after + 1] not in ("", "\n", "\r"):
            raise UsageError(
                "this line is not NAME=VALUE", where=place(position), next="a comment begins with #; close quotes"
            )
        if HASH_INSIDE.search(match["bare"] or ""):
            raise UsageError(
                f"dotenv cuts the value of {match['name']} off at its #",
                where=place(match.start("name")),
                next="put it in quotes",
            )
        if match["name"] in found:
            raise UsageError(
                f"{match['name']} is written twice", where=place(match.start("name")), next="remove one of them"
            )
        found[match["name"]] = _value(match)
        position = after
    return found


def _value(match: re.Match[str]) -> str:
    if match["raw"] is not None:
        return match["raw"]
    if match["quoted"] is not None:
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), match["quoted"], flags=re.DOTALL)
    return re.sub(r"(^|\s)#.*", "", match["bare"]).strip()
