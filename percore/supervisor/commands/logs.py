"""`percore logs`: the last lines of the logs, then new lines, ordered by time as far as the lines have timestamps."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Optional

from percore.common.printable import printable
from percore.errors import PercoreError
from percore.supervisor.client import as_selectors, select_workers, user_of
from percore.supervisor.commands.arguments import Parser, make_parser
from percore.supervisor.commands.output import warn
from percore.supervisor.logs.follow import Follower
from percore.supervisor.logs.timestamps import ISO_SECONDS, ISO_UTC, make_stamper, read_stamp

_POLL_SECONDS = 0.1
_ASK_SECONDS = 1.0
_GREEN, _RED, _MARKED, _PLAIN = b"\x1b[32m", b"\x1b[31m", b"\x1b[7m", b"\x1b[0m"


class Line(NamedTuple):
    source: LogSource
    text: bytes
    moment: Optional[float]  # its own timestamp


class LogSource:
    """One stream of one worker; of the first one where several write the same file."""

    def __init__(self, worker: Mapping[str, Any], stream: str, path: str, *, begin: Optional[int]) -> None:
        self.id = worker["id"]
        self.name = worker["name"]
        self.stream = stream
        self.path = path
        self.follower = Follower(path, user=user_of(worker), begin=begin)
        self._has_warned = False
        if self.follower.problem:
            warn(f"{path} cannot be read: {self.follower.problem}")

    def read(self) -> list[Line]:
        lines = self._lines(self.follower.read().splitlines())
        if self.follower.has_lost and not self._has_warned:
            self._has_warned = True
            warn(f"{self.path}: some lines were rotated before they could be shown")
        return lines

    def last(self, count: int) -> list[Line]:
        return self._lines(self.follower.last_lines(count))

    def _lines(self, texts: Iterable[bytes]) -> list[Line]:
        return [Line(self, text, read_stamp(text)) for text in texts]


def make_logs_parser() -> Parser:
    parser = make_parser("logs")
    parser.add_argument("selectors", nargs="*", metavar="selector", help="name, id, namespace, /regex/ or all")
    parser.add_argument(
        "--lines", type=int, default=15, metavar="N", help="first print this many lines of each log; 0: none"
    )
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
    sources: dict[str, LogSource] = {}
    for path, worker, stream, _ in find_logs(options):
        if (place := os.path.realpath(path)) not in sources:
            sources[place] = LogSource(worker, stream, path, begin=None)
    write = make_writer(options, sources)
    for line in in_time_order([source.last(options.lines) for source in sources.values()], _written_time):
        write(line)
    sys.stdout.flush()
    if not options.nostream:
        follow(options, sources, write)
    return 0


def find_logs(options: Namespace) -> Iterator[tuple[str, Mapping[str, Any], str, Optional[int]]]:
    """(path, worker, stream, where what it writes begins) for all that is selected."""
    for selector in as_selectors(options.selectors or ["all"]):
        for worker in select_workers(selector):
            starts = worker["log_starts"] or (None, None)
            if (options.out or not options.err) and worker["out_file"] != os.devnull:
                yield worker["out_file"], worker, "out", starts[0]
            if (options.err or not options.out) and worker["error_file"] != os.devnull:
                yield worker["error_file"], worker, "err", starts[1]


def follow(options: Namespace, sources: dict[str, LogSource], write: Callable[[Line], None]) -> None:
    asked = time.monotonic()
    while True:
        if time.monotonic() - asked >= _ASK_SECONDS:
            add_new(options, sources)
            asked = time.monotonic()
        batches = [source.read() for source in sources.values()]
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
              "process_id": line.source.id, "app_name": line.source.name}  # fmt: skip
    return json.dumps(fields, ensure_ascii=False).encode()
