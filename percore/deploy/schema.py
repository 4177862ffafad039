"""The one reader of typed values: what a value out of YAML, JSON or a template must be, and the sentence when it is not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Generic, Protocol, TypeVar, get_type_hints

from percore.common import names
from percore.errors import UsageError, nearest, shown

T = TypeVar("T")
MOST = 1_000_000
"""Of hosts, and of seconds: eleven days."""


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What a value must be, in words, and the reader, which raises ValueError for another one."""

    wanted: str
    convert: Callable[[Any], T]
    is_optional: bool = False  # it may be missing
    variable: str = ""  # of a setting that is called otherwise

    def of(self, variable: str) -> Kind[T]:
        return replace(self, variable=variable)

    def read(self, value: Any, name: str, where: str) -> T:
        """Raises UsageError that says which value should be what, and what it is."""
        try:
            return self.convert(value)
        except (ValueError, TypeError, OverflowError):
            raise UsageError(f"{name} should be {self.wanted} and is {_describe(value)}", where=where) from None


def _describe(value: object) -> str:
    return "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else shown(value)


# -- settings: the annotation of a field is its reader ----------------------------------------------------------------------


class VariableSource(Protocol):
    """Where settings come from; `where` is the place that sets one, for errors."""

    def __contains__(self, name: object) -> bool: ...

    def __getitem__(self, name: str) -> Any: ...

    def where(self, name: str = "") -> str: ...


@cache
def kinds_of(made: Any) -> dict[str, Kind[Any]]:
    """Of the fields that are annotated with one, by name."""
    hints = get_type_hints(made, include_extras=True)
    found = ((name, kind) for name, hint in hints.items() for kind in getattr(hint, "__metadata__", ()))
    return {name: kind for name, kind in found if isinstance(kind, Kind)}


def read_fields(made: Any, variables: VariableSource) -> dict[str, Any]:
    """The values of a dataclass's settings: fields annotated with the kind that reads them."""
    return {name: read_variable(variables, kind.variable or name, kind) for name, kind in kinds_of(made).items()}


def read_variable(variables: VariableSource, name: str, kind: Kind[T]) -> T:
    if name in variables:
        return kind.read(variables[name], f"variable '{name}'", variables.where(name))
    if kind.is_optional:
        return kind.convert(None)
    raise UsageError(f"variable '{name}' is not set", where=variables.where(), next="set it in the inventory")


def suggest(word: object, known: Iterable[str], otherwise: str) -> str:
    """What to type instead of a word that is not known."""
    guess = nearest(str(word), list(known))
    return f"did you mean '{guess}'?" if guess else otherwise


# -- kinds --------------------------------------------------------------------------------------------------------------


def checked(wanted: str, fits: Callable[[Any], object]) -> Kind[Any]:
    """Any value that fits, as it is."""

    def check(value: Any) -> Any:
        if not fits(value):
            raise ValueError
        return value

    return Kind(wanted, check)


def matching(wanted: str, fits: Callable[[str], object]) -> Kind[str]:
    """A text that fits."""

    def check(value: Any) -> str:
        text = TEXT.convert(value)
        if not fits(text):
            raise ValueError
        return text

    return Kind(wanted, check)


def pattern(wanted: str, expression: str) -> Kind[Any]:
    """A text or a whole number, written as the expression says; it stays what it is."""
    return checked(wanted, lambda value: isinstance(value, (str, int)) and re.fullmatch(expression, str(value)))


def optional(kind: Kind[T]) -> Kind[T | None]:
    """Missing, null and empty are none."""
    return Kind(
        kind.wanted, lambda value: None if value is None or value == "" else kind.convert(value), is_optional=True
    )


def defaulting(kind: Kind[T], default: T) -> Kind[T]:
    """Missing is the default, for projects whose own roles are older than the setting."""
    return Kind(kind.wanted, lambda value: default if value is None else kind.convert(value), is_optional=True)


def whole(least: int = 0, most: int = MOST) -> Kind[int]:
    def read(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError
        return value

    return Kind(f"a whole number from {least} to {most}", read)


def number(most: float) -> Kind[float]:
    def read(value: Any) -> float:
        found = math.nan if isinstance(value, bool) else float(value)
        if not 0 <= found <= most:
            raise ValueError
        return found

    return Kind(f"a number from 0 to {most:.0f}", read)


def choice(*words: str) -> Kind[str]:
    return checked(" or ".join(words), lambda value: value in words)


def is_whole_number(value: object) -> bool:
    """One that can be written out; a template may make any."""
    return isinstance(value, int) and value.bit_length() < 3000


def is_text(value: object) -> bool:
    return isinstance(value, str) and value != "" and re.search(r"[\0\ud800-\udfff]", value) is None


def is_command(value: object) -> bool:
    return is_text(value) or (isinstance(value, list) and value != [] and all(map(_is_word, value)))


def _is_word(value: object) -> bool:
    """A template may make a number of it."""
    return is_text(value) or (is_whole_number(value) and not isinstance(value, bool))


def _to_text(value: Any) -> str:
    if not is_text(value) and not is_whole_number(value):
        raise ValueError
    return str(value)


def _to_texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(entry, (str, int)) for entry in value):
        raise ValueError
    return [str(entry) for entry in value]


def _to_list_of_texts(value: Any) -> list[str]:
    found = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(entry, str) and entry for entry in found):
        raise ValueError
    return found


def _to_environment(value: Any) -> str:
    """Null would silently become the text of a null; a number with a point may have been written otherwise, as 1.10."""
    if not isinstance(value, str) and not is_whole_number(value):
        raise ValueError
    return str(value).lower() if isinstance(value, bool) else str(value)


TEXT = Kind("a text", _to_text)
TEXTS = Kind("a list of texts", _to_texts)
TEXT_OR_TEXTS = Kind("a text or a list of texts", _to_list_of_texts)
ENVIRONMENT_VALUE = Kind("a text (in quotes), a whole number, or true or false", _to_environment)
MAPPING: Kind[dict[str, Any]] = checked("a mapping", lambda value: isinstance(value, dict))
LIST: Kind[list[Any]] = checked("a list", lambda value: isinstance(value, list))
FLAG: Kind[bool] = checked("true or false", lambda value: isinstance(value, bool))
PORT = Kind("a port from 1 to 65535", whole(1, 65535).convert)
COMMAND = checked("a command, or a list of its words", is_command)
NAME = matching(names.PATH_WORD, names.is_path_word)
USER = matching("the name of a user", names.is_user_name)
SERVER_NAME = matching("a name as NGINX's server_name takes it", names.is_server_name)
URL_PATH = matching("a path such as /health", lambda path: re.fullmatch(r"/[!-~]*", path))
INNER_PATH = matching("a path in the app's directory, without '..'", names.is_inner_path)
PATH = matching("an absolute path without '..', and not /", names.is_absolute_path)
SAFE_PATH = matching("an absolute path without '..', of letters, digits and . _ - + @ : ~", names.is_safe_path)


_IMAGE_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE_HOST = r"(?=[^/]*[.:]|localhost/)[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
IMAGE_REPOSITORY = matching(
    "the name of an image without a tag, such as registry.example.com/team/shop",
    lambda text: re.fullmatch(rf"(?=.{{1,200}}$)(?:{_IMAGE_HOST}/)?{_IMAGE_PART}(?:/{_IMAGE_PART})*", text),
)


def lists_of(kind: Kind[T]) -> Kind[tuple[T, ...]]:
    """One, or a list of them."""
    return Kind(
        f"{kind.wanted}, or a list of them",
        lambda value: tuple(map(kind.convert, value if isinstance(value, list) else [value])),
    )


SHARED = Kind(
    "a list of directories in the app's directory, none in another one, such as uploads or data/files",
    lists_of(matching("", names.is_plain_inner_path)).convert,
)


def require_keys(mapping: Mapping[Any, Any], known: Sequence[str], path: str, where: str) -> dict[str, Any]:
    """The mapping. Raises UsageError for a key that is not known, with the nearest one."""
    # YAML 1.1, which inventories are, reads the key `on` as true.
    found = {"on" if key is True and "on" in known else key: value for key, value in mapping.items()}
    for key in found:
        if key not in known:
            advice = suggest(key, known, f"known keys: {', '.join(known)}")
            raise UsageError(f"key '{path + '.' if path else ''}{key}' is not known", where=where, next=advice)
    return found
