"""The names of typing for annotations, without typing, which would be a twentieth of the supervisor's memory.

Nothing on a host asks for a type at run time, so there the names stand for nothing. `NamedTuple` is the exception: it makes a
class, from the names of its fields alone.
"""

from __future__ import annotations

from collections import namedtuple

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

    class _Hint:
        def __class_getitem__(cls, _):
            return cls

    Any = Callable = NoReturn = Optional = Union = _Hint
    Protocol = object

    class _Maker(type):
        def __new__(cls, name, bases, members):
            fields = members.get("__annotations__", {})
            defaults = [members.pop(field) for field in fields if field in members]
            made = namedtuple(name, fields, defaults=defaults, module=members["__module__"])
            for member, value in members.items():
                if member not in ("__module__", "__qualname__"):
                    setattr(made, member, value)
            return made

    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})
