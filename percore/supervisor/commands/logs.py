"""`percore logs`: the last lines of the logs, then new lines, ordered by time as far as the lines have timestamps."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Optional

from percore.common.bounds import regex_limit
from percore.common.printable import printable
from percore.errors import PercoreError, UsageError
from percore.supervisor.client import as_selectors, select_workers, user_of
from percore.supervisor.commands.arguments import Parser, make_parser
from percore.supervisor.commands.output import warn
from percore.supervisor.logs.follow import Follower
from percore.supervisor.logs.node_json import node_json
from percore.supervisor.logs.selection import LogSelection, TimedLine, read_selection, with_moments
from percore.supervisor.logs.timestamps import ISO_SECONDS, ISO_UTC, make_stamper

_POLL_SECONDS = 0.1
_ASK_SECONDS = 1.0
_FEW = 15
_LEAST_READ, _MOST_READ = 1000, 200_000  # lines that are looked through for those which are asked for
_GREEN, _RED, _MARKED, _PLAIN = b"\x1b[32m", b"\x1b[31m", b"\x1b[7m", b"\x1b[0m"


class Line(NamedTuple):
    source: LogSource
    text: bytes
    moment: Optional[float]  # its own, or that of the line above it


class LogSource:
    """One stream of one worker; of the first one where several write the same file."""

    def __init__(self, worker: Mapping[str, Any], stream: str, path: str, *, begin: Optional[int]) -> None:
        self.id = worker["id"]
        self.name = worker["name"]
        self.stream = stream
        self.path = path
        self.follower = Follower(path, user=user_of(worker), begin=begin)
        self._has_warned = False
        self._moment: Optional[float] = None  # of the last line that told one
        if self.follower.problem:
            warn(f"{path} cannot be read: {self.follower.problem}")

    def read(self, selection: LogSelection) -> list[Line]:
        lines = with_moments(self.follower.read().splitlines(), self._moment)
        if self.follower.has_lost and not self._has_warned:
            self._has_warned = True
            warn(f"{self.path}: some lines were rotated before they could be shown")
        return self._own(line for line in lines if selection.matches(line))

    def last(self, count: Optional[int], selection: LogSelection) -> list[Line]:
        """The last `count` of those that are selected; all of them without a count."""
        if selection == LogSelection():
            return self._own(with_moments(self.follower.last_lines(_FEW if count is None else count)))
        lines = self._look_back(count, selection)
        if selection.is_about_time and lines and lines[-1].moment is None:
            lines = self._without_times(lines, selection)[-_FEW if count is None else -count :]
        found = [line for line in lines if selection.has(line)]
        return self._own(found if count is None else found[len(found) - min(len(found), count) :])

    def _look_back(self, count: Optional[int], selection: LogSelection) -> list[TimedLine]:
        """So many lines that those which are wanted are among them."""
        asked = _LEAST_READ
        while True:
            texts = self.follower.last_lines(asked)
            lines = with_moments(texts)
            begin = lines[0].moment if lines else None
            is_far = begin is None or (selection.since is not None and begin < selection.since)
            if selection.pattern is not None and begin is None:
                is_far = False
            is_enough = count is not None and sum(map(selection.has, lines)) >= count
            if is_far or is_enough or len(texts) < asked:
                return lines
            if asked >= _MOST_READ:
                warn(f"{self.path}: lines before the last {asked} are not looked at -> zgrep, or a shorter time")
                return lines
            asked = min(asked * 4, _MOST_READ)

    def _without_times(self, lines: list[TimedLine], selection: LogSelection) -> list[TimedLine]:
        """Its file tells at least when the last one was written."""
        if selection.since is not None and _written_time(self) < selection.since:
            return []
        warn(f"{self.path}: its lines tell no time, so the last ones are shown -> set log_date_format, or time: true")
        return lines

    def _own(self, lines: Iterable[TimedLine]) -> list[Line]:
        own = [Line(self, line.text, line.moment) for line in lines]
        self._moment = own[-1].moment if own else self._moment
        return own


def make_logs_parser() -> Parser:
    parser = make_parser("logs")
    parser.add_argument("selectors", nargs="*", metavar="TARGET", help="name, id, namespace, /regex/ or all")
    parser.add_argument(
        "--lines", type=int, metavar="N", help="first print this many lines of each log (15; all with --since); 0: none"
    )
    parser.add_argument(
        "--since", default="", metavar="TIME", help="only lines since then: 10m (ago), 14:30, 2026-05-06T14:30"
    )
    parser.add_argument("--until", default="", metavar="TIME", help="only lines until then; does not follow")
    parser.add_argument("--grep", default="", metavar="REGEX", help="only lines in which it is found")
    parser.add_argument("--nostream", action="store_true", help="print these lines only, do not follow")
    parser.add_argument("--follow", action="store_true", help="the default; for symmetry with --nostream")
    parser.add_argument("--err", action="store_true", help="only standard error")
    parser.add_argument("--out", action="store_true", help="only standard output")
    parser.add_argument("--raw", action="store_true", help="only the lines themselves")
    parser.add_argument("--json", action="store_true", help="each line as a JSON object")
    parser.add_argument("--format", action="store_true", help="timestamp= app= id= type= message=")
    parser.add_argument("--timestamp", nargs="?", const="YYYY-MM-DD-HH:mm:ss", metavar="FORMAT",
                        help="date before each line, at the time it is shown")  # fmt: skip
    parser.add_argument("--highlight", metavar="TEXT", help="highlight it in each line, on a terminal")
    return parser


def show_logs(arguments: list[str]) -> int:
    """Prints the last lines of each log, then follows all of them until Ctrl-C."""
    options = make_logs_parser().parse_args(arguments)
    selection = _selection_of(options)
    count = options.lines if options.lines is not None or selection.since is not None else _FEW
    sources: dict[str, LogSource] = {}
    for path, worker, stream, _ in find_logs(options):
        if (place := os.path.realpath(path)) not in sources:
            sources[place] = LogSource(worker, stream, path, begin=None)
    write = make_writer(options, sources)
    with regex_limit(options.grep):
        last = [source.last(count, selection) for source in sources.values()]
    for line in in_time_order(last, _written_time):
        write(line)
    sys.stdout.flush()
    if not options.nostream and selection.until is None:
        follow(options, sources, write, selection)
    return 0


def _selection_of(options: Namespace) -> LogSelection:
    try:
        return read_selection(options.since, options.until, options.grep)
    except ValueError as error:
        raise UsageError(f"--since, --until or --grep: {error}", where="logs", next="percore logs --help") from None


def find_logs(options: Namespace) -> Iterator[tuple[str, Mapping[str, Any], str, Optional[int]]]:
    """(path, worker, stream, where what it writes begins) for all that is selected."""
    for selector in as_selectors(options.selectors or ["all"]):
        for worker in select_workers(selector):
            starts = worker["log_starts"] or (None, None)
            if (options.out or not options.err) and worker["out_file"] != os.devnull:
                yield worker["out_file"], worker, "out", starts[0]
            if (options.err or not options.out) and worker["error_file"] != os.devnull:
                yield worker["error_file"], worker, "err", starts[1]


def follow(
    options: Namespace,
    sources: dict[str, LogSource],
    write: Callable[[Line], None],
    selection: LogSelection,
) -> None:
    asked = time.monotonic()
    while True:
        if time.monotonic() - asked >= _ASK_SECONDS:
            add_new(options, sources)
            asked = time.monotonic()
        with regex_limit(options.grep):
            batches = [source.read(selection) for source in sources.values()]
        for line in in_time_order(batches, lambda _: time.time()):
            write(line)
        sys.stdout.flush()
        if not any(batches):
            time.sleep(_POLL_SECONDS)


def add_new(options: Namespace, sources: dict[str, LogSource]) -> None:
    """Apps and workers that were started meanwhile. The logs stay readable without the supervisor."""
    try:
        for path, worker, stream, start in find_logs(options):
            if (place := os.path.realpath(path)) not in sources:
                sources[place] = LogSource(worker, stream, path, begin=start or 0)
    except PercoreError:
        return


def in_time_order(batches: Iterable[list[Line]], otherwise: Callable[[LogSource], float]) -> list[Line]:
    """Lines without a time of their own belong to the one before; where a log tells no times at all, it stays together."""
    keyed = []
    for batch in batches:
        known = next((line.moment for line in batch if line.moment is not None), None)
        key = otherwise(batch[0].source) if batch and known is None else known or 0.0
        for line in batch:
            key = key if line.moment is None else line.moment
            keyed.append((key, line))
    return [line for _, line in sorted(keyed, key=lambda entry: entry[0])]


def _written_time(source: LogSource) -> float:
    try:
        return os.stat(source.path).st_mtime
    except OSError:
        return 0.0


# -- how a line is shown ---------------------------------------------------------------------------------------------


def make_writer(options: Namespace, sources: Mapping[str, LogSource]) -> Callable[[Line], None]:
    output = sys.stdout.buffer
    is_terminal = sys.stdout.isatty()
    marked = options.highlight.encode() if options.highlight and is_terminal else b""
    stamp = make_stamper(options.timestamp) if options.timestamp else None
    iso = make_stamper(ISO_UTC if options.json else ISO_SECONDS)

    def label(line: Line) -> bytes:
        if options.raw:
            return b""
        source = line.source
        if not is_terminal:
            return f"{source.id}|{source.name} | ".encode()
        width = max(len(f"{other.id}|{other.name}") for other in sources.values())
        colour = _RED if source.stream == "err" else _GREEN
        return colour + f"{f'{source.id}|{source.name}':<{width}} | ".encode() + _PLAIN

    def shown(text: bytes) -> bytes:
        """What a program wrote may be another user's: of its control characters a terminal gets the colours only."""
        return printable(text.decode(errors="replace"), colours=True).encode() if is_terminal else text

    def write(line: Line) -> None:
        moment = time.time() if line.moment is None else line.moment
        if options.json:
            output.write(shown(_as_json(line, iso(moment))) + b"\n")
            return
        text = shown(line.text)
        text = text.replace(marked, _MARKED + marked + _PLAIN, 1) if marked else text
        if options.format:
            source = line.source
            fields = f"timestamp={iso(moment)} app={source.name} id={source.id} type={source.stream} message="
            output.write(fields.encode() + text + b"\n")
            return
        prefix = f"{stamp(time.time())}: ".encode() if stamp else b""
        output.write(prefix + label(line) + text + b"\n")

    return write


def _as_json(line: Line, timestamp: str) -> bytes:
    """A line of `log_type: json` is what is asked for already."""
    if line.text.startswith(b'{"message":'):
        return line.text
    fields = {"message": line.text.decode(errors="replace"), "timestamp": timestamp, "type": line.source.stream,
              "process_id": line.source.id, "app_name": line.source.name,
              **({"untimed": True} if line.moment is None else {})}  # fmt: skip
    return node_json(fields)
