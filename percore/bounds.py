"""Bounds on what people and programs hand us: files, YAML aliases, regular expressions. Shared by all parts."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
from collections.abc import Iterator

from percore.errors import UsageError
from percore.hints import Any, NoReturn

MOST_FILE_BYTES = 16 << 20
MOST_YAML_VALUES = 200_000
REGEX_SECONDS = 1.0


def read_file(path: str) -> bytes:
    """The content of a regular file. Raises OSError, also for a pipe or a device, which might never end, and over 16 MB."""
    try:
        # O_NONBLOCK: to open a pipe must not wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError:
        raise OSError(errno.EINVAL, "its name holds a zero byte", path) from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        content = file.read(MOST_FILE_BYTES + 1)
    if len(content) > MOST_FILE_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {MOST_FILE_BYTES >> 20} MB", path)
    return content


class AliasError(ValueError):
    """YAML aliases that contain themselves, or that grow; `line` is where."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(what)
        self.line = line


def check_aliases(root: Any) -> None:
    """Ten lines of aliases of aliases stand for more values than any machine holds. Takes PyYAML's nodes; raises AliasError."""
    sizes: dict[int, int] = {}
    entered: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting[-1]
        children = _children(node)
        if id(node) in sizes:
            waiting.pop()
            continue
        if id(node) in entered:
            sizes[id(node)] = 1 + sum(sizes[id(child)] for child in children)
            if sizes[id(node)] > max(MOST_YAML_VALUES, len(sizes)):
                raise AliasError(f"its aliases stand for more than {MOST_YAML_VALUES} values", _line_of(node))
            waiting.pop()
            continue
        entered.add(id(node))
        for child in children:
            if id(child) in entered and id(child) not in sizes:
                raise AliasError("an alias contains itself", _line_of(child))
            waiting.append(child)


def _children(node: Any) -> list[Any]:
    if not isinstance(node.value, list):
        return []
    return [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]


def _line_of(node: Any) -> int:
    return int(node.start_mark.line) + 1


class _TooLong(Exception):
    pass


@contextlib.contextmanager
def regex_limit(written: str) -> Iterator[None]:
    """Ends a search that backtracks without end: the engine looks for signals while it searches. Raises UsageError.

    Only in the main thread of a POSIX process, where signals are handled.
    """

    def stop(*_: object) -> NoReturn:
        raise _TooLong

    try:
        former = signal.signal(signal.SIGALRM, stop)
    except (AttributeError, ValueError):
        yield
        return
    try:
        signal.setitimer(signal.ITIMER_REAL, REGEX_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _TooLong:
        raise UsageError(
            f"'{written}' takes longer than {REGEX_SECONDS:.0f} s to compare",
            next="write it without nested repetitions",
        ) from None
    finally:
        signal.signal(signal.SIGALRM, former)
