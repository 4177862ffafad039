"""The supervisor's own log, a line at a time, and faults of its own, with their tracebacks.

A fault ends where it is contained: an unexpected exception costs the callback, job or request in which it was raised. Each is
counted; one that comes again and again is not written each time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from percore.common.typing import Any, Callable
from percore.errors import PercoreError

_MOST_A_MINUTE = 3  # tracebacks of one place
_MOST_FRAMES = 12
_MOST_PLACES = 100
_LONGEST_MESSAGE = 200


def write_to_stderr(line: str) -> None:
    """The journal under systemd, `logs/percore.log` otherwise."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {line}\n")
    sys.stderr.flush()


_write: Callable[[str], None] = write_to_stderr


def log(line: str) -> None:
    _write(line)


def send_to(write: Callable[[str], None]) -> None:
    """From now on each line is given to `write`."""
    global _write
    _write = write


class InternalError(PercoreError):
    """Something unexpected went wrong in the supervisor itself; the traceback is in its log."""


class Faults:
    def __init__(self) -> None:
        self.count = 0
        self.last = ""
        self._written: dict[tuple[str, ...], list[float]] = {}  # by kind and place, when

    def note(self, doing: str, error: BaseException) -> InternalError:
        """Counts it, writes it down, and returns what to tell the caller."""
        self.count += 1
        try:
            told = InternalError(
                f"internal error while {doing}: {name_of(error)}",
                next="see percore doctor; the traceback is in the supervisor's log",
            )
            self.last = told.what
            if self._is_news(error):
                log("\n".join([told.what, *lines_of(error)]))
            return told
        except Exception:  # such as no memory left to write it down: the count tells
            return InternalError("internal error")

    def contain(self, doing: str, callback: Callable[..., object], *arguments: Any) -> bool:
        """Calls it; False when it failed, which affects nothing else."""
        try:
            callback(*arguments)
        except Exception as error:
            self.note(doing, error)
            return False
        return True

    def summary(self) -> dict[str, Any]:
        return {"count": self.count, "last": self.last}

    def _is_news(self, error: BaseException) -> bool:
        now, key = time.monotonic(), (type(error).__name__, *list(_places(error))[-1:])
        if len(self._written) > _MOST_PLACES:
            self._written.clear()
        moments = self._written[key] = [moment for moment in self._written.get(key, ()) if now - moment < 60]
        if len(moments) >= _MOST_A_MINUTE:
            return False
        moments.append(now)
        return True


def name_of(error: BaseException) -> str:
    """On one line."""
    text = " ".join(str(error).split())[:_LONGEST_MESSAGE]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def lines_of(error: BaseException) -> list[str]:
    """A traceback without source lines: those are read from files, and there may be no descriptor left."""
    return [f"  {place}" for place in list(_places(error))[-_MOST_FRAMES:]]


def _places(error: BaseException) -> Iterator[str]:
    frame = error.__traceback__
    while frame:
        code = frame.tb_frame.f_code
        yield f"{code.co_filename}:{frame.tb_lineno} in {code.co_name}"
        frame = frame.tb_next
