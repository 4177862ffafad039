"""Records: JSON objects that become NamedTuples. The annotation of a field names its kind, and is the only place that does.

`read` checks each field and keeps, in the field `unknown` where the class has one, what another version wrote and this one does
not know.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum
from functools import cache

from percore.common.typing import Any, Callable
from percore.supervisor.config.kinds import KINDS, Wanted

Reader = Callable[[Any], Any]

# Fields under the name that records have for them: a version that knows the older name only would refuse the record.
# Both names are read.
_RECORDED_AS = {"max_memory_restart": "max_memory"}
_FIELDS = {recorded: field for field, recorded in _RECORDED_AS.items()}
_LONGEST_SHOWN = 40


class WrongField(ValueError):
    """`field` is its path, such as `slots.0.id`; `reason` never contains a value of a mapping, which may be secret."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}" if field else reason)
        self.field = field
        self.reason = reason

    def below(self, field: object) -> WrongField:
        return WrongField(f"{field}.{self.field}" if self.field else str(field), self.reason)


def recorded_as(field: str) -> str:
    """The name of a field in a record."""
    return _RECORDED_AS.get(field, field)


def field_of(key: str) -> str:
    """The field that a record means by this key."""
    return _FIELDS.get(key, key)


def read(kind: Any, record: Any) -> Any:
    """A NamedTuple of this class. Raises WrongField."""
    readers = _readers_of(kind)
    fields: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    if not isinstance(record, Mapping):
        raise WrongField("", f"is {_shown(record)}, not an object")
    for key, value in record.items():
        field = field_of(key)
        if field in readers:
            fields[field] = read_field(readers[field], key, value)
        else:
            unknown[key] = value
    for field in readers:
        if field not in fields and field not in kind._field_defaults:
            raise WrongField(field, "is missing")
    if "unknown" in kind._fields:
        fields["unknown"] = unknown
    return kind(**fields)


def read_field(reader: Reader, name: object, value: Any) -> Any:
    try:
        return reader(value)
    except WrongField as error:
        raise error.below(name) from None
    except Wanted as error:
        raise WrongField(str(name), f"is {_shown(value)}, not {error}") from None


@cache
def _readers_of(kind: Any) -> dict[str, Reader]:
    names = vars(sys.modules[kind.__module__])
    return {field: _reader_of(text, names) for field, text in kind.__annotations__.items() if field != "unknown"}


def _reader_of(text: str, names: Mapping[str, Any]) -> Reader:
    outer, _, inner = text.partition("[")
    inner = inner[:-1]
    if outer == "Live":
        return _reader_of(inner, names)
    if outer == "Optional":
        reader = _reader_of(inner, names)
        return lambda value: None if value is None else reader(value)
    if outer == "tuple":
        return _list_of(_reader_of(inner.partition(",")[0], names))
    if outer == "Mapping":
        key, _, item = inner.partition(", ")
        return _mapping_of(_reader_of(key, names), _reader_of(item, names))
    return KINDS[text] if text in KINDS else _of_class(names[text])


def _of_class(kind: Any) -> Reader:
    if issubclass(kind, Enum):
        return lambda value: _member(kind, value)
    return lambda value: read(kind, value)


def _member(kind: type[Enum], value: Any) -> Enum:
    try:
        return kind(value)
    except ValueError:
        raise Wanted(f"one of {', '.join(str(member.value) for member in kind)}") from None


def _list_of(reader: Reader) -> Reader:
    def read_list(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise Wanted("a list")
        return tuple(read_field(reader, number, item) for number, item in enumerate(value))

    return read_list


def _mapping_of(key: Reader, item: Reader) -> Reader:
    def read_mapping(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise Wanted("an object")
        return {_entry(key, name, name): _entry(item, name, found) for name, found in value.items()}

    return read_mapping


def _entry(reader: Reader, name: object, value: Any) -> Any:
    try:
        return reader(value)
    except WrongField:
        raise WrongField(str(name), "contains a value that is not a text") from None
    except Wanted as error:
        raise WrongField(f"{name!r}", f"is not {error}") from None


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list, tuple)):
        return "an object" if isinstance(value, dict) else "a list"
    text = "null" if value is None else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
