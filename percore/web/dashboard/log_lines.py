"""What is asked of a log and what is shown of it, wherever it lies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from percore.common.printable import printable
from percore.common.typing import Any, NamedTuple
from percore.errors import UsageError

MOST_LINES = 1_000
LONGEST_LINE = 4_096
LONGEST_SEARCH = 200
_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,40}m")
STREAMS = ("all", "out", "err")


class LogQuery(NamedTuple):
    lines: int = 200
    search: str = ""
    stream: str = "all"

    def is_in(self, text: bytes) -> bool:
        """Whichever case its letters have."""
        return not self.search or self.search.casefold() in text.decode(errors="replace").casefold()


class LogReply(NamedTuple):
    lines: Sequence[Mapping[str, str]]
    problem: str = ""


def read_query(given: Mapping[str, str]) -> LogQuery:
    """Raises UsageError."""
    lines, stream, search = given.get("lines", "200"), given.get("stream", "all"), given.get("search", "")
    if not (lines.isascii() and lines.isdigit() and 0 < int(lines[:9]) <= MOST_LINES):
        raise UsageError(f"lines should be a number from 1 to {MOST_LINES}")
    if stream not in STREAMS:
        raise UsageError(f"stream should be one of {', '.join(STREAMS)}")
    if len(search) > LONGEST_SEARCH:
        raise UsageError(f"search should be at most {LONGEST_SEARCH} characters")
    return LogQuery(int(lines), search, stream)


def clean_lines(lines: Iterable[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """Without colours, other control characters as text, and none longer than a page can show."""
    return [{"stream": stream, "text": _clean(text)} for stream, text in lines]


def _clean(text: bytes) -> str:
    return printable(_COLOUR.sub("", text[:LONGEST_LINE].decode(errors="replace")))
