"""The names of typing for annotations, without typing, which would be a twentieth of the supervisor's memory.

Nothing on a host asks for a type at run time, so there the names stand for nothing. `NamedTuple` is the exception: it makes a
class, from the names of its fields alone.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any as Any
    from typing import Callable as Callable
    from typing import NamedTuple as NamedTuple
    from typing import NoReturn as NoReturn
    from typing import Optional as Optional
    from typing import Protocol as Protocol
    from typing import Union as Union
else:
    from collections import _tuplegetter  # how `namedtuple` itself reads a field

    class _Hint:
        def __class_getitem__(cls, _):
            return cls

    Any = Callable = NoReturn = Optional = Union = _Hint
    Protocol = object

    class _Record(tuple):
        """What all of them share: `collections.namedtuple` makes these anew for each class, which is most of its memory."""

        __slots__ = ()
        _fields = ()

        @classmethod
        def _make(cls, values):
            made = tuple.__new__(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
            return made

        def _replace(self, /, **changes):
            made = self._make(map(changes.pop, self._fields, self))
            if changes:
                raise ValueError(f"Got unexpected field names: {list(changes)!r}")
            return made

        def _asdict(self):
            return dict(zip(self._fields, self))

        def __repr__(self):
            shown = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self))
            return f"{type(self).__name__}({shown})"

        def __getnewargs__(self):
            return tuple(self)

    _names = {"make": tuple.__new__, "__builtins__": {}}

    def _new_of(fields, defaults):
        """`__new__` with the fields as its arguments."""
        given = "".join(f", {field}" for field in fields)
        new = eval(f"lambda cls{given}: make(cls, ({given[2:]}{',' if fields else ''}))", _names)
        new.__name__ = new.__qualname__ = "__new__"
        new.__defaults__ = defaults
        return new

    class _Maker(type):
        def __new__(cls, name, bases, members):
            fields = tuple(members.get("__annotations__", ()))
            defaults = {field: members.pop(field) for field in fields if field in members}
            for number, field in enumerate(fields):
                members[field] = _tuplegetter(number, None)
            members.update(
                __slots__=(),
                _fields=fields,
                _field_defaults=defaults,
                __match_args__=fields,
                __new__=_new_of(fields, tuple(defaults.values())),
            )
            return type(name, (_Record,), members)

    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})
