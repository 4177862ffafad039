"""What the operator sees: progress lines, tables, errors, JSON. The only place of the control side that prints."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
import time
import weakref
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple, TextIO

from percore.common.printable import lines_of, printable, printable_lines
from percore.common.worker_status import count_up, is_job
from percore.deploy.masking import REDACTOR
from percore.deploy.terminal import TERMINAL, paint, shows_progress
from percore.deploy.waiting import waiting_text
from percore.errors import PercoreError

SILENCE_SECONDS = 2.0

PLAIN_SILENCE_SECONDS = 15.0
"""Where nothing can be overwritten, as in the log of a CI job, a line stays; hosts that are waited for are named there, too."""

_HOST_SHADES = ("cyan", "yellow", "green", "magenta", "blue")
_DIFF_SHADES = {"+++": "bold", "---": "bold", "@@ ": "cyan", "+": "green", "-": "red"}
_CHANGE_SHADES = {
    **dict.fromkeys(("create", "enable", "start", "link", "install"), "green"),
    **dict.fromkeys(("remove", "stop", "disable", "end"), "red"),
    **dict.fromkeys(("change", "replace", "restart", "reload"), "yellow"),
}
_CELL_SHADES = {
    **dict.fromkeys(("running", "healthy", "good"), "green"),
    **dict.fromkeys(("fatal", "backoff", "failed", "unreachable", "nothing", "rolled"), "red"),
    **dict.fromkeys(("stopped", "stopping", "starting", "exited"), "yellow"),
}
"""By the first word."""


class ReportPhase(NamedTuple):
    """A chapter of the run. `started` in nanoseconds since 1970."""

    name: str
    title: str
    started: int


class Report:
    """Lines on the terminal, from any thread. `quiet` keeps progress back (for --json); errors always show."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.is_quiet = quiet
        self._started = time.monotonic()
        self._last = self._started
        self._doing: str | None = "waiting for the hosts"  # None: nothing that is worth a word
        self._ended = threading.Event()
        self.phases: list[ReportPhase] = []
        threading.Thread(target=_break_silence, args=(weakref.ref(self),), daemon=True).start()

    def phase(self, name: str, text: str = "") -> None:
        """A new chapter of the story: build, connect, stage, ..."""
        self._doing = f"{name} {text}".rstrip()
        self.phases.append(ReportPhase(name, text, time.time_ns()))
        self._line(f"{name:<10} {text}".rstrip(), "bold")

    def step(self, text: str) -> None:
        self._line(f"           {text}")

    def change(self, text: str, diff: str = "") -> None:
        """Something that would become, or is, different, and how."""
        self._line(f"           {text}", _CHANGE_SHADES.get(text.partition(" ")[0], ""))
        for line in lines_of(diff):
            self._line(f"             {line}", _diff_shade(line))

    def host(self, host: str, text: str) -> None:
        self._line(f"  {host}  {text}")

    def line(self, text: str = "") -> None:
        self._line(text)

    def log(self, host: str, text: str) -> None:
        """A line of an app's log, or of a command. A terminal gets its colours and shows the rest; a pipe gets it as it is.

        Without a host it is of the only one.
        """
        self._doing = None
        self._last = time.monotonic()
        if self.is_quiet:
            return
        masked = REDACTOR.text(text)
        shown = printable(masked, colours=True) if sys.stdout.isatty() else masked
        shade = _HOST_SHADES[zlib.crc32(host.encode()) % len(_HOST_SHADES)]
        before = f"{paint(printable(host), shade, sys.stdout)} | " if host else ""
        TERMINAL.line(f"{before}{shown}", sys.stdout)

    def end_progress(self) -> None:
        """From now on another program writes to the terminal."""
        self._doing = None
        self._ended.set()

    def warn(self, text: str) -> None:
        _write(f"warning: {text}", sys.stderr, "yellow")

    def finish(self, text: str) -> None:
        self._ended.set()
        self._line(f"{text} ({time.monotonic() - self._started:.1f} s)", "green")

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        cells = [[printable(REDACTOR.text(str(cell))) for cell in row] for row in rows]
        widths = [max([len(head), *(len(row[column]) for row in cells)]) for column, head in enumerate(heads)]
        for number, row in enumerate([list(heads), *cells]):
            shades = [_CELL_SHADES.get(cell.partition(" ")[0].rstrip(","), "") if number else "bold" for cell in row]
            padded = [
                paint(cell, shade, sys.stdout) + " " * (width - len(cell))
                for cell, shade, width in zip(row, shades, widths, strict=True)
            ]
            self._line("  " + "  ".join(padded).rstrip(), is_printable=True)

    def json(self, value: object, *, indent: int | None = 2) -> None:
        """Without an indent it is a line, one of many."""
        self._ended.set()
        TERMINAL.line(json.dumps(REDACTOR.value(value), indent=indent).replace("\x7f", "\\u007f"), sys.stdout)

    def ask(self, question: str) -> bool:
        """The operator's answer at the terminal; anything but yes is no."""
        self._doing = None
        TERMINAL.line(printable(REDACTOR.text(f"{question} [y/N] ")), sys.stderr, end="")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _line(self, text: str, shade: str = "", *, is_printable: bool = False) -> None:
        self._last = time.monotonic()
        if not self.is_quiet:
            _write(text, sys.stdout, shade, is_printable=is_printable)

    def tell_waiting(self) -> threading.Event | None:
        """Nothing stays silent: say what is still being done, and which hosts are waited for. None at the end."""
        if self._ended.is_set():
            return None
        is_live = shows_progress()
        if self._doing and time.monotonic() - self._last >= (SILENCE_SECONDS if is_live else PLAIN_SILENCE_SECONDS):
            waiting = waiting_text()
            text = f"... {self._doing}: {waiting}" if waiting else f"... {self._doing}"
            text = printable(REDACTOR.text(f"{text}, {time.monotonic() - self._started:.0f} s so far"))
            if is_live:
                TERMINAL.progress(text)
            elif waiting:
                self._last = time.monotonic()
                TERMINAL.line(text, sys.stderr)
        return self._ended


def _break_silence(of: weakref.ref[Report]) -> None:
    """As long as there is the report."""
    while (report := of()) is not None and (ended := report.tell_waiting()) is not None:
        del report
        ended.wait(0.5)
    TERMINAL.clear()


def _diff_shade(line: str) -> str:
    return next((shade for start, shade in _DIFF_SHADES.items() if line.startswith(start)), "")


def _write(text: str, stream: TextIO, shade: str = "", *, is_printable: bool = False) -> None:
    """Everything that is shown goes through here: secrets are masked, and control characters shown, not sent."""
    masked = REDACTOR.text(text)
    TERMINAL.line(paint(masked if is_printable else printable(masked), shade, stream), stream)


def write_raw(data: bytes) -> None:
    """What a program sends to the operator's terminal. It is the program's, and so are its secrets: nothing is masked."""
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def be_verbose(level: int) -> None:
    """1: each message to a host; 2: how much was sent; 3: SSH's own messages. All on standard error, secrets masked."""
    if not level:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(_Masked("%(relativeCreated)7d ms  %(message)s"))
    for name, least, at in (
        ("percore", 1, logging.INFO),
        ("percore", 2, logging.DEBUG),
        ("paramiko", 3, logging.DEBUG),
    ):
        if level >= least:
            logging.getLogger(name).setLevel(at)
            logging.getLogger(name).handlers = [handler]


class _Masked(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(REDACTOR.text(super().format(record)))


def print_error(error: PercoreError) -> None:
    """One line, then the other side's own last words where there are some."""
    _write(f"percore: {error}", sys.stderr, "red")
    for line in lines_of(error.detail)[-20:]:
        _write(f"  | {line}", sys.stderr)


def print_line(text: str) -> None:
    """One plain line that belongs to no rollout: the interrupt notice, a check's summary."""
    _write(text, sys.stderr)


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def describe_apps(status: Mapping[str, Any]) -> str:
    """`api 2/2, worker 1/1, migrate finished`: running and wanted workers of each app."""
    parts = []
    for app in status.get("apps", []):
        is_over = app["workers"] and all(worker.get("finished") for worker in app["workers"])
        count = "job" if is_job(app) else "finished" if is_over else f"{count_up(app)}/{app['wanted']}"
        parts.append(f"{app['name']} {count}")
    return ", ".join(parts) or "nothing runs"


def worker_rows(host: str, status: Mapping[str, Any]) -> list[list[object]]:
    """One row per worker for the table of `invoke status`."""
    return [
        [
            host,
            app["name"],
            app["mode"],
            worker["slot"],
            worker["pid"] or "-",
            worker["state"],
            worker["release"] or "-",
            worker["port"] or "-",
            f"{worker['memory_bytes'] / 1e6:.0f} MB",
            f"{worker['cpu_percent']:.0f} %",
            f"{worker['uptime_seconds']:.0f} s",
            worker["restarts"],
        ]
        for app in status.get("apps", [])
        for worker in app["workers"]
    ]


WORKER_HEADS = ("host", "app", "mode", "slot", "pid", "state", "release", "port", "memory", "cpu", "uptime", "restarts")
