"""The types of options: how a value is read from a process file and a command line, and how it is shown.

A reader turns what is written into the value of a field, in every form that PM2 takes, or raises ValueError that says what it
wanted. `kinds` is stricter: it reads what percore itself wrote.
"""

from __future__ import annotations

import math
import os
import re

from percore.common.typing import Any, Callable, NamedTuple, Optional
from percore.supervisor.config import kinds
from percore.supervisor.config.app_bounds import why_no_name
from percore.supervisor.config.kinds import CLUSTER, FORK, LONGEST_SECONDS, is_plain

_SMALLEST_LOG = 64 << 10
_MOST_DIGITS = 18


def text(value: Any) -> str:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        if is_plain(found := str(value)):
            return found
        raise ValueError("a text that a program can be given (UTF-8, no zero byte)")
    raise ValueError("a text")


def app_name(value: Any) -> str:
    if reason := why_no_name(name := text(value)):
        raise ValueError(reason)
    return name


def variable(value: Any) -> str:
    if (name := text(value)) and "=" not in name:
        return name
    raise ValueError("the name of a variable")


def url_path(value: Any) -> str:
    return kinds.url_path(text(value))


def host_name(value: Any) -> str:
    return kinds.host_name(text(value))


def flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise ValueError("true or false")


def whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**_MOST_DIGITS:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 10**_MOST_DIGITS:
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
        return int(value)
    raise ValueError("a whole number")


def words(value: Any) -> tuple[str, ...]:
    """A list, or a text that is split at spaces, outside quotes."""
    if value is None:
        return ()
    if isinstance(value, str):
        import shlex  # not for those who only show values

        try:
            return tuple(shlex.split(text(value)))
        except ValueError as error:
            raise ValueError(f"a text that can be split at spaces ({error})") from None
    if isinstance(value, (list, tuple)):
        return tuple(text(item) for item in value)
    raise ValueError("a list, or a text with spaces between its parts")


def names(value: Any) -> tuple[str, ...]:
    return (text(value),) if isinstance(value, str) else words(value)


def numbers(value: Any) -> tuple[int, ...]:
    return tuple(whole(item) for item in value) if isinstance(value, (list, tuple)) else (whole(value),)


def milliseconds(value: Any) -> float:
    """PM2 counts in milliseconds; `10s`, `5m`, `1h` and `500ms` are understood too. Returns seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", value.strip())
        seconds = (
            float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, None: 0.001}[match[2]]
            if match
            else -1
        )
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < LONGEST_SECONDS * 1000:
        seconds = value / 1000
    else:
        seconds = -1
    if 0 <= seconds < LONGEST_SECONDS:
        return seconds
    raise ValueError("milliseconds, or a time such as 10s")


def memory(value: Any) -> Optional[int]:
    """Bytes, or a number with K, M or G (1024 each); 0 means no limit."""
    size = -1.0
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG])?B?", value.strip(), re.IGNORECASE)
        if match:
            size = float(match[1]) * 1024.0 ** ("KMG".index(match[2].upper()) + 1 if match[2] else 0)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**63:
        size = float(value)
    if math.isfinite(size) and 0 <= size < 2**63:
        return int(size) or None
    raise ValueError("bytes, or a size such as 300M")


def bytes_or_none(value: Any) -> int:
    return memory(value) or 0


def log_size(value: Any) -> int:
    size = memory(value) or 0
    if 0 < size < _SMALLEST_LOG:
        raise ValueError("0, or a size of at least 64K")
    return size


def instances(value: Any) -> Any:
    return kinds.instances(value if value == kinds.MAX else whole(value))


def mode(value: Any) -> str:
    if value in (CLUSTER, "cluster_mode"):
        return CLUSTER
    if value in (FORK, "fork_mode"):
        return FORK
    raise ValueError("cluster or fork")


def port(value: Any) -> int:
    return kinds.port(whole(value))


def listen_addresses(value: Any) -> tuple[str, ...]:
    """A port, an address, or a list of them; what they mean is in `address`."""
    written = tuple(text(item) for item in value) if isinstance(value, (list, tuple)) else (text(value),)
    return tuple(map(kinds.listen, written))


def signal_name(value: Any) -> str:
    name = text(value).upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    return kinds.signal_name(name)


def count(value: Any) -> int:
    return kinds.count(whole(value))


def log_path(value: Any) -> str:
    return os.devnull if value is False or value in ("NULL", "null", "/dev/null") else text(value)


def combined_log(value: Any) -> Optional[str]:
    """Empty: at the default path."""
    return ("" if value else None) if isinstance(value, bool) else log_path(value)


def date_format(value: Any) -> Optional[str]:
    return ("YYYY-MM-DDTHH:mm:ss" if value else None) if isinstance(value, bool) else text(value)


def watched(value: Any) -> Any:
    if isinstance(value, bool) or value in ("true", "false"):
        return flag(value)
    return globs_or_regexes(value)


def globs_or_regexes(value: Any) -> tuple[str, ...]:
    from percore.supervisor.config import globs

    for pattern in (found := names(value)):
        globs.check(pattern)
    return found


def schedule(value: Any) -> Optional[str]:
    """None where it is removed, which PM2's users write as 0."""
    if value in (False, 0, "0", "", "false"):
        return None
    from percore.supervisor.config import cron

    try:
        cron.parse(expression := text(value))
    except ValueError as error:
        raise ValueError(f"a cron expression: {error}") from None
    return expression


def variables(value: Any) -> tuple[str, ...]:
    """Parts of names; the empty one is part of every name: `true` means all variables."""
    return (("",) if value else ()) if isinstance(value, bool) else names(value)


EVENTS = ("crash", "crash_loop", "given_up", "memory", "reload_failed", "recovered", "job_failed")


def hooks(value: Any) -> dict[str, tuple[str, ...]]:
    if not value:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"a mapping of events ({', '.join(EVENTS)}) to commands or addresses")
    for event in value:
        if event not in EVENTS:
            raise ValueError(f"a mapping with keys among {', '.join(EVENTS)}")
    return {event: names(targets) for event, targets in value.items() if targets}


def shown(value: Any) -> str:
    """A value in `describe`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple, dict)):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None or value == "" else str(value)


def split_at_spaces(written: str) -> list[str]:
    import shlex

    try:
        return shlex.split(written)
    except ValueError:
        return [written]


def split_at_commas(written: str) -> list[str]:
    return re.findall(r"[^,\s]+", written)


Reader = Callable[[Any], Any]
Shower = Callable[[Any], str]
Splitter = Callable[[str], Any]


class ValueType(NamedTuple):
    """`read` raises ValueError that says what it wanted instead."""

    read: Reader
    unit: str = ""  # stands for the value in the help; otherwise the last word of the key
    show: Shower = shown  # in `describe`
    to_json: Reader = lambda value: value  # in `jlist`
    split: Splitter = lambda written: written  # a value of the command line, as a process file has it
    is_path: bool = False
    words: str = "a text"  # what it takes, for people


TEXT = ValueType(text)
FLAG = ValueType(flag, words="true or false")
COUNT = ValueType(count, "N", words="a whole number, 0 or more")
DURATION = ValueType(
    milliseconds, "MS", lambda seconds: f"{seconds:g} s", lambda seconds: round(1000 * seconds),
    words="milliseconds, or a time such as 10s",
)  # fmt: skip
# PM2 counts seconds on its command line, and milliseconds in a file.
DELAY = DURATION._replace(split=lambda written: f"{written}s" if re.fullmatch(r"[\d.]+", written) else written)
SIZE = ValueType(
    memory, "SIZE", lambda size: f"{size / 1048576:.1f}mb" if size else "-", words="bytes, or a size such as 300M"
)
SIZE_OR_0 = SIZE._replace(read=bytes_or_none)
PATH = ValueType(text, is_path=True, words="a path")
LOG_FILE = ValueType(log_path, is_path=True, words="a path; false or `/dev/null`: none")
ARGUMENTS = ValueType(words, "TEXT", lambda words: " ".join(words) or "-", list, words="a list, or words of a text")
NAMES = ValueType(names, to_json=list, split=split_at_spaces, words="a list, or one")
PATTERNS = ValueType(globs_or_regexes, to_json=list, split=split_at_spaces, words="paths and patterns, or one")
VARIABLE = ValueType(variable, words="the name of a variable")
APP_NAME = ValueType(app_name, words="a name")
INSTANCES = ValueType(instances, "N|max|-N", words="a whole number, `max`, or -n")
MODE = ValueType(mode, "fork|cluster", words="cluster or fork")
ADDRESSES = ValueType(listen_addresses, "ADDRESS", to_json=list, words="an address, or a list of them")
CODES = ValueType(numbers, "CODES", to_json=list, split=split_at_commas, words="a number, or a list of them")
PORT = ValueType(port, "PORT", words="1 to 65535")
SCHEDULE = ValueType(schedule, "CRON", words="a cron expression; 0 or false: none")
SIGNAL = ValueType(signal_name, words="the name of a signal")
URL_PATH = ValueType(url_path, "PATH", words="a path such as /health, or an address")
HOST_NAME = ValueType(host_name, "NAME", words="a name")
DATE_FORMAT = ValueType(date_format, words="a format, or true")
HOOKS = ValueType(hooks, words="a mapping of events")
WATCHED = PATTERNS._replace(read=watched, words="true, false, or a list of paths")
COMBINED_LOG = LOG_FILE._replace(read=combined_log, words="a path, or true")
LOG_SIZE = SIZE._replace(read=log_size, words="0, or a size of at least 64K")
VARIABLES = NAMES._replace(read=variables, words="a list of parts of names, or true")
