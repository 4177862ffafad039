"""`percore logs`: the last lines of each file, then what follows."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from percore.supervisor.commands.asking import select_workers
from percore.supervisor.commands.parsing import Parser, make_parser
from percore.supervisor.logs import last_lines, size_of
from percore.supervisor.rotation import Follower


def make_logs_parser() -> Parser:
    parser = make_parser("logs")
    parser.add_argument("selector", nargs="?", default="all")
    parser.add_argument("--lines", type=int, default=15)
    parser.add_argument("--nostream", action="store_true")
    parser.add_argument("--follow", action="store_true", help="the default; for symmetry with --nostream")
    parser.add_argument("--err", action="store_true")
    parser.add_argument("--out", action="store_true")
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser


def show_logs(arguments: list[str]) -> int:
    """Prints the last lines of each file, then follows all of them until Ctrl-C."""
    options = make_logs_parser().parse_args(arguments)
    files: dict[str, tuple[dict[str, Any], str]] = {}
    for worker in select_workers(options.selector):
        for stream, wanted in (("out", options.out or not options.err), ("err", options.err or not options.out)):
            path = worker["out_file" if stream == "out" else "error_file"]
            if wanted and path != os.devnull:
                files.setdefault(path, (worker, stream))
    followers = {}
    for path, (worker, stream) in files.items():
        size = size_of(path)
        followers[path] = Follower(path, size)
        for line in last_lines(path, options.lines, until=size):
            print_log_line(options, worker, stream, line)
    sys.stdout.flush()
    while not options.nostream:
        for path, (worker, stream) in files.items():
            for line in followers[path].read().decode(errors="replace").splitlines():
                print_log_line(options, worker, stream, line)
        sys.stdout.flush()
        time.sleep(0.2)
    return 0


def print_log_line(options: Any, worker: Mapping[str, Any], stream: str, line: str) -> None:
    if options.json:
        print(json.dumps({"message": line, "type": stream, "process_id": worker["id"], "app_name": worker["name"]}))
    elif options.raw:
        print(line)
    else:
        print(f"{worker['id']}|{worker['name']} | {line}")
