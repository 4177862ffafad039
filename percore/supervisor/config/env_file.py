"""Environment files: NAME=value lines, as `.env` files have them. Read where process files are, never by the supervisor."""

from __future__ import annotations

import os
import re

from percore.common.bounds import read_file
from percore.common.names import variable_fault
from percore.common.typing import Callable, Optional
from percore.errors import UsageError

_SECRET_NAME = re.compile(
    r"SECRET|PASSW|TOKEN|CREDENTIAL|PRIVATE|(?:^|_)KEY(?:_|$)|API_?KEY|(?:^|_)(?:DSN|PWD)(?:_|$)", re.I
)
_SECRET_VALUE = re.compile(r"\w://[^/\s:@]*:[^/\s@]+@")
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][\w.-]*)\s*=\s*(.*)", re.DOTALL)
_HASH_INSIDE = re.compile(r"[^#]*[^\s#]#")
_MOST_CHARACTERS = 1 << 20  # the kernel gives a program no more than twice that
_MOST_LINES = 10_000  # of one value
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def load(path: str, *, user: Optional[str] = None, group: Optional[str] = None) -> dict[str, str]:
    """The variables of the file, for an app of this user. Raises UsageError; also for secrets that others than the file's
    owner may read."""
    variables = _parse_file(lambda: _read_for(path, user, group), path)
    mode = os.stat(path).st_mode & 0o777
    secret = next((name for name, value in variables.items() if is_secret(name, value)), None)
    if secret and mode & 0o077:
        raise UsageError(
            f"it contains secrets ('{secret}') and is readable by other users (mode {mode:o})",
            where=path,
            next=f"chmod 600 {path}",
        )
    return variables


def read(path: str, *, strict: bool = False) -> dict[str, str]:
    """The variables of the file, whatever its mode. Raises UsageError."""
    return _parse_file(lambda: _read(path), path, strict=strict)


def _read(path: str) -> str:
    return read_file(path).decode("utf-8-sig")


def _read_for(path: str, user: Optional[str], group: Optional[str]) -> str:
    """The app's user gets its content, so root reads it with that user's rights: a link must not lead root to other files."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return _read(path)
    from percore.supervisor.base.user import identity_or_none
    from percore.supervisor.base.user_files import read_text

    return read_text(path, identity_or_none(user, group))


def _parse_file(read: Callable[[], str], path: str, *, strict: bool = False) -> dict[str, str]:
    try:
        text = read()
    except OSError as error:
        raise UsageError(f"the env file cannot be read: {error.strerror}", where=path) from None
    except UnicodeDecodeError:
        raise UsageError("the env file is not UTF-8 text", where=path) from None
    except ValueError as error:
        raise UsageError(f"the env file cannot be read: {error}", where=path) from None
    return parse(text, path, strict=strict)


def is_secret(name: str, value: str) -> bool:
    """By its name, or a password inside an address."""
    return bool(value) and bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))


def parse(text: str, path: str, *, strict: bool = False) -> dict[str, str]:
    """Raises UsageError with the line; the values are never shown. Nothing in them is expanded.

    `strict` refuses what others would read differently, or once: a # inside a word, and a name that is written twice.
    """
    if len(text) > _MOST_CHARACTERS:
        raise UsageError(f"it is longer than {_MOST_CHARACTERS} characters", where=path)
    found: dict[str, str] = {}
    lines = text.replace("\r\n", "\n").split("\n")
    number = 0
    while number < len(lines):
        start = number
        line = lines[number].strip()
        number += 1
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise UsageError("this line is not NAME=value", where=f"{path}:{start + 1}")
        name, value = match[1], match[2]
        quote = value[:1]
        if quote in ("'", '"', "`"):
            # A quoted value may go on over several lines.
            end = 1
            while (end := _closing(value, quote, end)) >= len(value):
                if number == len(lines) or number > start + _MOST_LINES:
                    raise UsageError(f"the quote of '{name}' is not closed", where=f"{path}:{start + 1}")
                value += f"\n{lines[number]}"
                number += 1
            rest = value[end + 1 :].strip()
            if rest and not rest.startswith("#"):
                raise UsageError(f"unexpected text after the quoted value of '{name}'", where=f"{path}:{number}")
            value = _unescape(value[1:end]) if quote == '"' else value[1:end]
        else:
            if strict and _HASH_INSIDE.match(value):
                what = f"dotenv cuts the value of {name} off at its #"
                raise UsageError(what, where=f"{path}:{start + 1}", next="put it in quotes")
            value = re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()
        if fault := variable_fault(name, value):
            raise UsageError(fault, where=f"{path}:{start + 1}")
        if strict and name in found:
            raise UsageError(f"{name} is written twice", where=f"{path}:{start + 1}", next="remove one of them")
        found[name] = value
    return found


def _closing(value: str, quote: str, position: int) -> int:
    """Where the quote ends, looked for from `position` on; at or behind the end of the value: in none of its lines yet."""
    while position < len(value):
        if value[position] == "\\" and quote == '"':
            position += 1
        elif value[position] == quote:
            return position
        position += 1
    return position


def _unescape(value: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), value, flags=re.DOTALL)
