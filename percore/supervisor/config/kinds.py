"""What a field of a record may hold. A kind is a name for annotations, and a reader that returns the value or raises `Wanted`."""

from __future__ import annotations

import os
import re
import signal
import socket

from percore.common.typing import TYPE_CHECKING, Any, Callable, Union
from percore.supervisor.config.address import Address, parse_address

CLUSTER = "cluster"
FORK = "fork"
MAX = "max"
FORBID, QUEUE = "forbid", "queue"
EACH, ONE = "each", "one"
LONGEST_SECONDS = 10 * 365 * 86400.0

if TYPE_CHECKING:
    from typing import Annotated, TypeVar

    Held = TypeVar("Held")
    Live = Annotated[Held, "a change takes effect without a new worker"]
else:
    Live = None

# For annotations. To mypy they are what they hold; `KINDS` says what each of them takes.
Words = str
Name = str
Variable = str
Mode = str
Signal = str
Cron = str
Zone = str
Overlap = str
Where = str
UrlPath = str
HostName = str
Listen = str
Glob = str
Account = str
Token = str
Count = int
Pid = int
Port = int
Bytes = int
Generation = int
Seconds = float
Moment = float
Instances = Union[int, str]
Pair = tuple[int, int]

_HIGHEST_PID = 1 << 22
_HIGHEST_USER = (1 << 32) - 2
_MOST_BYTES = (1 << 63) - 1
_MOST_COUNTED = (1 << 53) - 1  # what every reader of JSON takes as it is
_LAST_MOMENT = 1 << 38  # in the year 10680; time.localtime takes it
MOST_INSTANCES = 1 << 16
MOST_PORTS = 65535


class Wanted(ValueError):
    """What a value should have been."""


def is_plain(value: str) -> bool:
    """False for what the system cannot take as an argument, a path or a variable."""
    return not re.search(r"[\0\ud800-\udfff]", value)


def words(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise Wanted("a text")


def text(value: Any) -> str:
    """As the system takes it: arguments and variables that are no UTF-8 are carried along in surrogates (os.fsencode)."""
    if isinstance(value, str) and "\0" not in value:
        try:
            os.fsencode(value)
        except UnicodeEncodeError:
            pass
        else:
            return value
    raise Wanted("a text that a program can be given")


def name(value: Any) -> str:
    if isinstance(value, str) and value and value.isprintable():
        return value
    raise Wanted("a text of printable characters")


def variable(value: Any) -> str:
    if text(value) and "=" not in value:
        return str(value)
    raise Wanted("the name of a variable")


def flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise Wanted("true or false")


def between(low: int, high: int, title: str) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise Wanted(title)

    return read


def number_of(high: float, title: str) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < high:
            return float(value)
        raise Wanted(title)

    return read


port = between(1, MOST_PORTS, "a port between 1 and 65535")
count = between(0, _MOST_COUNTED, "a whole number, 0 or more")


def instances(value: Any) -> Instances:
    return MAX if value == MAX else _instances(value)


# More than one app can have (`app_bounds`): what an earlier version took is adopted all the same.
_instances = between(-MOST_INSTANCES, MOST_INSTANCES, "max, or the number of workers")


def mode(value: Any) -> str:
    if value in (CLUSTER, FORK):
        return str(value)
    raise Wanted(f"{CLUSTER} or {FORK}")


def signal_name(value: Any) -> str:
    if isinstance(value, str) and value in signal.Signals.__members__:
        return value
    raise Wanted("a signal such as SIGTERM")


_HOST_NAME = r"[\w.-]{1,253}(:[0-9]{1,5})?"


def url_path(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(rf"((https?|h2c)://{_HOST_NAME})?/[!-~]*", value, re.ASCII):
        return value
    raise Wanted("a path such as /health, or an address such as https://localhost/health (http, https or h2c)")


def host_name(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(_HOST_NAME, value, re.ASCII):
        return value
    raise Wanted("a name such as shop.example.com")


def listen(value: Any) -> str:
    try:
        parse_address(text(value))
    except ValueError as error:
        raise Wanted(str(error)) from None
    return str(value)


def schedule(value: Any) -> str:
    from percore.supervisor.config import cron  # few apps have one

    try:
        cron.parse(text(value))
    except ValueError as error:
        raise Wanted(f"a cron expression ({error})") from None
    return str(value)


def zone(value: Any) -> str:
    from percore.supervisor.config import cron

    try:
        cron.zone_offset(text(value))
    except ValueError as error:
        raise Wanted(str(error)) from None
    return str(value)


def one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value in words:
            return str(value)
        raise Wanted(" or ".join(words))

    return read


def pattern(value: Any) -> str:
    from percore.supervisor.config import globs

    try:
        globs.check(text(value))
    except ValueError as error:
        raise Wanted(str(error)) from None
    return str(value)


def account(value: Any) -> str:
    """A name, or the number of a user or group."""
    if text(value).isdecimal() and int(value[:12]) > _HIGHEST_USER:
        raise Wanted("a user or group")
    return str(value)


def token(value: Any) -> str:
    if text(value) and "/" not in value:
        return str(value)
    raise Wanted("a token")


def pair(value: Any) -> tuple[int, int]:
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return count(value[0]), count(value[1])
    raise Wanted("two numbers")


def address(value: Any) -> Address:
    """A list of the fields of an Address."""
    try:
        family, kind, host, number, *rest = value
        found = Address(int(family), int(kind), text(host), _port_or_0(number), *map(flag, rest))
        is_kind = found.type in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        if is_kind and (found.family == socket.AF_UNIX or socket.inet_pton(found.family, found.host)):
            return found
    except (TypeError, ValueError, OSError, OverflowError):
        pass
    raise Wanted("an address")


_port_or_0 = between(0, MOST_PORTS, "a port")

KINDS: dict[str, Callable[[Any], Any]] = {
    "str": text,
    "int": between(-_MOST_COUNTED, _MOST_COUNTED, "a whole number"),
    "bool": flag,
    "Words": words,
    "Name": name,
    "Variable": variable,
    "Mode": mode,
    "Signal": signal_name,
    "Cron": schedule,
    "Zone": zone,
    "Overlap": one_of(FORBID, QUEUE),
    "Where": one_of(EACH, ONE),
    "UrlPath": url_path,
    "HostName": host_name,
    "Listen": listen,
    "Glob": pattern,
    "Account": account,
    "Token": token,
    "Count": count,
    "Pid": between(2, _HIGHEST_PID, "the number of a process"),
    "Port": port,
    "Bytes": between(0, _MOST_BYTES, "a number of bytes"),
    "Generation": between(0, 1, "0 or 1"),
    "Seconds": number_of(LONGEST_SECONDS, "seconds"),
    "Moment": number_of(_LAST_MOMENT, "a time"),
    "Instances": instances,
    "Pair": pair,
    "Address": address,
}
