"""Bounds on input from users and programs: files, YAML, regular expressions. Shared by all parts."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import stat
from collections.abc import Iterator

from percore.common.typing import Any, NoReturn, Optional
from percore.errors import UsageError

MOST_FILE_BYTES = 16 << 20
MOST_YAML_LENGTH = 4 << 20
MOST_YAML_VALUES = 200_000
DEEPEST_YAML = 100
LONGEST_NUMBER = 1000
LONGEST_REGEX = 10_000
REGEX_SECONDS = 1.0

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


# -- files -----------------------------------------------------------------------------------------------------------


def read_file(path: str, *, most: int = MOST_FILE_BYTES) -> bytes:
    """The content of a regular file. Raises OSError, also for a pipe or a device, which might never end, and over 16 MB."""
    try:
        # O_NONBLOCK: to open a pipe must not wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError:
        raise OSError(errno.EINVAL, "this is not a valid file name", ascii(path)) from None
    try:
        return _read_all(descriptor, path, most)
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, path: str, most: int) -> bytes:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    with open(descriptor, "rb", closefd=False) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MB", path)
    return content


# -- YAML ------------------------------------------------------------------------------------------------------------


class YamlFault(Exception):
    """Why a YAML text is not read; `line` and `column` say where, as far as that is known."""

    def __init__(self, what: str, mark: Any = None) -> None:
        super().__init__(what)
        self.what = what
        self.line = mark.line + 1 if mark else 0
        self.column = mark.column + 1 if mark else 0

    def place(self, name: str) -> str:
        return f"{name}:{self.line}:{self.column}" if self.line else name


def compose_yaml(text: str, loader: Any) -> Optional[Any]:
    """The root node of a YAML text, or None for an empty one: not too long, too deep, or too large by its aliases.

    The only way from a text to nodes: what `construct_document` makes of them is finite, and can be walked by recursion.
    Raises YamlFault.
    """
    import yaml

    if len(text) > MOST_YAML_LENGTH:
        raise YamlFault(f"it is longer than {MOST_YAML_LENGTH >> 20} MB")
    try:
        root = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        raise YamlFault(str(error.problem or error.context), error.problem_mark or error.context_mark) from None
    except yaml.YAMLError as error:
        raise YamlFault(str(error).splitlines()[0]) from None
    except (RecursionError, UnicodeError):
        raise YamlFault("it is nested too deeply, or no text") from None
    if root is not None:
        _check_nodes(root)
    return root


def _check_nodes(root: Any) -> None:
    """Ten lines of aliases of aliases stand for more values than any machine holds."""
    sizes: dict[int, int] = {}  # with all that aliases in it stand for
    depths: dict[int, int] = {}
    entered: set[int] = set()
    written = 0
    waiting = [root]
    while waiting:
        node = waiting[-1]
        children = _children(node)
        if id(node) in sizes:
            waiting.pop()
        elif id(node) in entered:
            waiting.pop()
            own = _weigh(node)
            written += own
            sizes[id(node)] = own + sum(sizes[id(child)] for child in children)
            depths[id(node)] = 1 + max((depths[id(child)] for child in children), default=0)
            if sizes[id(node)] > written + MOST_YAML_VALUES:
                raise YamlFault(f"its aliases stand for more than {MOST_YAML_VALUES} values", node.start_mark)
            if depths[id(node)] > DEEPEST_YAML:
                raise YamlFault(f"it is nested deeper than {DEEPEST_YAML} levels", node.start_mark)
        else:
            entered.add(id(node))
            for child in children:
                if id(child) in entered and id(child) not in sizes:
                    raise YamlFault("an alias contains itself", child.start_mark)
            waiting += children


def _weigh(node: Any) -> int:
    """How many values it counts for: a long text, which aliases may repeat, for more than one."""
    if isinstance(node.value, list):
        return 1
    if node.tag in _NUMBERS and len(node.value) > LONGEST_NUMBER:
        raise YamlFault(f"it holds a number of more than {LONGEST_NUMBER} digits", node.start_mark)
    return 1 + len(node.value) // 100


def _children(node: Any) -> list[Any]:
    if not isinstance(node.value, list):
        return []
    return [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]


CONSTRUCTION_FAULTS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What PyYAML raises for a tag such as !!int or !!bool before a value that is not one, in addition to its own errors."""


# -- regular expressions ---------------------------------------------------------------------------------------------


def compile_regex(written: str, flags: int = 0) -> re.Pattern[str]:
    """Raises ValueError that says why it is none; `regex_limit` then bounds each use."""
    if len(written) > LONGEST_REGEX:
        raise ValueError(f"it is longer than {LONGEST_REGEX} characters")
    try:
        return re.compile(written, flags)
    except (re.error, RecursionError, OverflowError, MemoryError) as error:
        raise ValueError(str(error)) from None


class _TooLong(Exception):
    pass


_is_limited = False


def _stop(*_: object) -> None:
    if _is_limited:
        raise _TooLong


@contextlib.contextmanager
def regex_limit(written: str) -> Iterator[None]:
    """Ends a search that backtracks without end: the engine looks for signals while it searches. Raises UsageError.

    It counts our own time of the processor, so that a busy or suspended machine ends nothing. Only in the main thread of a POSIX
    process, where signals are handled.
    """
    global _is_limited
    try:
        signal.signal(signal.SIGVTALRM, _stop)  # it stays: a late signal would end the process otherwise
    except (AttributeError, ValueError):
        yield
        return
    try:
        _is_limited = True
        signal.setitimer(signal.ITIMER_VIRTUAL, REGEX_SECONDS)
        yield
    except _TooLong:
        _refuse_slow(written)
    finally:
        _is_limited = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _refuse_slow(written: str) -> NoReturn:
    shown = written if len(written) <= 80 else f"{written[:77]}..."
    raise UsageError(
        f"'{shown}' takes longer than {REGEX_SECONDS:.0f} s to compare", next="write it without nested repetitions"
    ) from None
