"""The variables of an app: `env`, and environment files of NAME=value lines. Read with process files, never by the supervisor."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping

from percore.common.bounds import read_file
from percore.common.names import variable_fault
from percore.common.typing import Any, Callable, Optional
from percore.errors import UsageError, nearest
from percore.supervisor.config.formats import line_of, shown
from percore.supervisor.config.kinds import is_plain
from percore.supervisor.config.value_types import names

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


# -- what an app names in its process file ----------------------------------------------------------------------------


def load_env_files(
    written: Mapping[str, Any], path: str, title: str, cwd: str, user: Optional[str] = None, group: Optional[str] = None
) -> dict[str, str]:
    """The variables of the files that `env_file` names; of several files a later one wins."""
    key = "env_file" if "env_file" in written else "envFile"
    value = written.get(key)
    if value is None or value is False:
        return {}
    try:
        places = names(value)
    except (ValueError, TypeError):
        raise UsageError(
            f"key '{key}' of {title} must be a path, or a list of paths, not {shown(value)}",
            where=line_of(written, key, path),
        ) from None
    env: dict[str, str] = {}
    for place in places:
        env.update(load(os.path.join(cwd, os.path.expanduser(place)), user=user, group=group))
    return env


def make_env(
    written: Mapping[str, Any], path: str, title: str, env_name: Optional[str], warnings: list[str]
) -> dict[str, str]:
    """`env`, then `env_<name>` over it. Values become text; nested ones JSON, as in PM2."""
    env: dict[str, str] = {}
    chosen = f"env_{env_name}" if env_name and env_name != "file" else None
    others = [str(key) for key in written if str(key).startswith("env_") and key != "env_file"]
    if chosen and others and chosen not in others:
        like = nearest(chosen, others)
        warnings.append(f"{path}: {title} has no '{chosen}'" + (f" -> did you mean '{like}'?" if like else ""))
    for key in ("env", chosen):
        values = written.get(key) if key else None
        if values is None:
            continue
        where = line_of(written, key, path)
        if not isinstance(values, Mapping):
            raise UsageError(f"key '{key}' of {title} must be a mapping of names to values", where=where)
        for name, value in values.items():
            if variable_fault(str(name)):
                raise UsageError(f"{shown(name)} in '{key}' of {title} cannot name a variable", where=where)
            text = variable_text(value)
            if text is None:
                raise UsageError(
                    f"'{name}' in '{key}' of {title} cannot be the value of a variable (zero byte, no UTF-8, or endless)",
                    where=line_of(values, name, path),
                )
            env[str(name)] = text
    return env


def variable_text(value: Any) -> Optional[str]:
    """The text a worker gets; None when no variable can hold it."""
    try:
        if isinstance(value, (dict, list, bool)):
            text = json.dumps(value, default=str, separators=(",", ":"), ensure_ascii=False)  # as JavaScript writes it
        elif isinstance(value, float) and value.is_integer():
            text = str(int(value))  # as JavaScript writes it
        else:
            text = "" if value is None else str(value)
    except (ValueError, TypeError, RecursionError):
        return None
    return text if is_plain(text) else None
