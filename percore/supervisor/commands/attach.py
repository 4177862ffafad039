"""`percore send` and `attach`: lines for the standard input of a worker."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Mapping
from typing import Any

from percore.common.printable import printable
from percore.errors import PercoreError, UsageError
from percore.supervisor.base.home import Home
from percore.supervisor.client import select_workers, user_of
from percore.supervisor.commands.arguments import make_parser
from percore.supervisor.commands.output import say
from percore.supervisor.logs.follow import Follower

_LOOK_SECONDS = 0.1


def send_line(arguments: list[str]) -> int:
    parser = make_parser("send")
    parser.add_argument("selector", metavar="ID", help="id, or the name of an app with one worker")
    parser.add_argument("words", metavar="TEXT", nargs="+", help="the text; a newline is added")
    options = parser.parse_args(arguments)
    worker = one_worker("send", options.selector)
    write_input(worker, f"{' '.join(options.words)}\n".encode())
    say(f"sent to {worker['name']} {worker['slot']}")
    return 0


def attach(arguments: list[str]) -> int:
    """Ends with Ctrl-C or the end of our own input; the worker goes on."""
    parser = make_parser("attach")
    parser.add_argument("selector", metavar="ID", help="id, or the name of an app with one worker")
    worker = one_worker("attach", parser.parse_args(arguments).selector)
    write_input(worker, b"")
    paths = dict.fromkeys(path for path in (worker["out_file"], worker["error_file"]) if path != os.devnull)
    followers = [Follower(path, user=user_of(worker)) for path in paths]
    while True:
        for follower in followers:
            content = follower.read()
            sys.stdout.buffer.write(shown(content) if sys.stdout.isatty() else content)
        sys.stdout.flush()
        if select.select([0], [], [], _LOOK_SECONDS)[0]:
            typed = os.read(0, 65536)
            if not typed:
                return 0
            write_input(worker, typed)


def shown(content: bytes) -> bytes:
    """The lines of a worker, safe for a terminal; a character that is cut in two becomes two replacement characters."""
    lines = content.decode(errors="replace").split("\n")
    return "\n".join(printable(line, colours=True) for line in lines).encode()


def one_worker(command: str, selector: str) -> Mapping[str, Any]:
    workers = select_workers(selector)
    if len(workers) != 1:
        ids = ", ".join(str(worker["id"]) for worker in workers)
        raise UsageError(
            f"'{selector}' matches {len(workers)} workers ({ids})", where=command, next=f"percore {command} ID"
        )
    if workers[0]["mode"] != "fork":
        raise PercoreError(f"'{selector}' is a cluster; only fork apps have an input", where=command)
    return workers[0]


def write_input(worker: Mapping[str, Any], content: bytes) -> None:
    """Into the pipe that the worker's standard input is; it is there whether the supervisor lives or not."""
    try:
        pipe = os.open(Home.of_user().stdin_of(worker["id"]), os.O_WRONLY | os.O_NONBLOCK)
        try:
            written = os.write(pipe, content)
        finally:
            os.close(pipe)
    except BlockingIOError:
        written = 0
    except OSError as error:
        what = "the worker is not running" if error.errno in (errno.ENXIO, errno.ENOENT) else str(error.strerror)
        raise PercoreError(f"{what}, so nothing was sent", where=f"worker {worker['id']} of {worker['name']}") from None
    if written < len(content):
        raise PercoreError(
            "the worker does not read its input, and the buffer is full",
            where=f"worker {worker['id']} of {worker['name']}",
        )
