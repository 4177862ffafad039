"""The last lines of a worker's logs, searched: bounded in lines and bytes, read from the end of the files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from percore.common.typing import Any, NamedTuple, Optional
from percore.supervisor.base.user_files import AnyUser
from percore.supervisor.logs.follow import Follower
from percore.supervisor.logs.timestamps import read_stamp
from percore.web.dashboard.log_lines import LogQuery, LogReply, clean_lines

_SEARCHED_LINES = 20_000
_MOST_BYTES = 8 << 20
"""So far back a search looks in each log."""


class _WrittenLine(NamedTuple):
    moment: float
    stream: str
    text: bytes


def tail(worker: Mapping[str, Any], user: Optional[AnyUser], query: LogQuery) -> LogReply:
    """Of a worker as the supervisor describes it, with the rights of its user."""
    problems = []
    found: list[_WrittenLine] = []
    for stream, path in _paths(worker, query.stream):
        follower = Follower(path, user=user)
        if follower.problem:
            problems.append(f"{path} cannot be read: {follower.problem}")
        count = _SEARCHED_LINES if query.search else query.lines
        texts = follower.last_lines(count, most_bytes=_MOST_BYTES)
        follower.close()
        found += _timed(stream, texts, _written_time(path))
    found.sort(key=lambda line: line.moment)
    chosen = [(line.stream, line.text) for line in found if query.is_in(line.text)]
    return LogReply(clean_lines(chosen[-query.lines :]), "; ".join(problems))


def _paths(worker: Mapping[str, Any], wanted: str) -> Iterator[tuple[str, str]]:
    seen = {os.devnull}
    for stream, path in (("out", worker["out_file"]), ("err", worker["error_file"])):
        if wanted in ("all", stream) and path not in seen:
            seen.add(path)
            yield stream, path


def _timed(stream: str, texts: Sequence[bytes], otherwise: float) -> Iterator[_WrittenLine]:
    """A line without a time of its own belongs to the one before; a log without any stays together."""
    stamps = [read_stamp(text) for text in texts]
    moment = next((stamp for stamp in stamps if stamp is not None), otherwise)
    for stamp, text in zip(stamps, texts):
        moment = moment if stamp is None else stamp
        yield _WrittenLine(moment, stream, text)


def _written_time(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
