"""`percore heap` and `percore profile`: what a worker keeps in memory, and what it spends its time on, as a file.

One worker at a time. It goes on serving; a heap snapshot blocks it for as long as V8 takes to walk the heap.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from percore.common.printable import printable
from percore.common.procfs import tree_of
from percore.errors import PercoreError, UsageError
from percore.supervisor.client import select_workers
from percore.supervisor.commands.arguments import make_parser
from percore.supervisor.commands.inspection.node import (
    NodeTarget,
    heap_job,
    is_node,
    ports_of,
    profile_job,
    program_name,
    run_job,
)
from percore.supervisor.commands.inspection.python import profile_python, refuse_heap
from percore.supervisor.commands.inspection.room import LEAST_FREE, check_disk, check_heap_room, resident_bytes
from percore.supervisor.commands.output import say, short_size

Worker = Mapping[str, Any]

_HEAP_SECONDS = 600.0
_LONGEST_PROFILE = 600.0
_PROFILE_BYTES = 64 << 20
_MOST_PARTS_UNCHECKED = 64


class InspectedProgram(NamedTuple):
    pid: int
    kind: str  # node, python, or what it is called
    memory: int


def take_heap(arguments: list[str]) -> int:
    parser = make_parser("heap")
    add_common(parser, "with the most memory")
    parser.add_argument("--keep", type=int, default=0, metavar="N", help="remove older snapshots of the app but N")
    parser.add_argument("--force", action="store_true", help="although the worker may be replaced meanwhile")
    options = parser.parse_args(arguments)
    refuse_no_directory(options.output)
    for worker in chosen_workers(options.target, "memory_bytes", every=options.all):
        program = program_of(worker)
        if program.kind == "python":
            refuse_heap(worker["name"])
        refuse_others(program, worker)
        check_heap_room(worker, options.output, program.pid, program.memory, is_forced=options.force)
        path = file_for(options.output, worker, "heapsnapshot")
        began = time.monotonic()
        write_parts(path, run_job(target_of(worker, program), heap_job(), _HEAP_SECONDS))
        tell(worker, path, began, "Chrome: DevTools, Memory, Load")
        if options.keep:
            remove_older(options.output, worker, options.keep)
    return 0


def take_profile(arguments: list[str]) -> int:
    parser = make_parser("profile")
    add_common(parser, "that uses the most CPU")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="N", help="how long (10; at most 600)")
    options = parser.parse_args(arguments)
    refuse_no_directory(options.output)
    if not 0.1 <= options.seconds <= _LONGEST_PROFILE:
        raise UsageError(f"--seconds must be between 0.1 and {_LONGEST_PROFILE:g}")
    for worker in chosen_workers(options.target, "cpu_percent", every=options.all):
        program = program_of(worker)
        check_disk(options.output, _PROFILE_BYTES)
        say(f"{worker['name']} {worker['slot']} (pid {program.pid}): profiling for {options.seconds:g} s")
        began = time.monotonic()
        if program.kind == "python":
            path = file_for(options.output, worker, "speedscope.json")
            with finished(path) as unfinished:
                profile_python(program.pid, options.seconds, unfinished)
            tell(worker, path, began, "https://www.speedscope.app, which keeps it in the browser")
            continue
        refuse_others(program, worker)
        path = file_for(options.output, worker, "cpuprofile")
        write_parts(path, run_job(target_of(worker, program), profile_job(options.seconds), options.seconds + 60))
        tell(worker, path, began, "Chrome: DevTools, Performance, Load profile; or https://www.speedscope.app")
    return 0


def add_common(parser: Any, which: str) -> None:
    parser.add_argument("target", metavar="APP", help=f"an id; or a name: of several workers the one {which}")
    parser.add_argument("--all", action="store_true", help="every worker of it, one after the other")
    parser.add_argument("--output", metavar="DIRECTORY", default=os.curdir, help="where the file is written (here)")


def refuse_no_directory(path: str) -> None:
    if not os.path.isdir(path):
        raise UsageError("there is no such directory", where=path, next="--output DIRECTORY")


def chosen_workers(target: str, measure: str, *, every: bool) -> Sequence[Worker]:
    running = [worker for worker in select_workers(target) if worker["pid"] and worker["state"] == "running"]
    if not running:
        raise PercoreError(f"no worker of '{target}' runs", next="percore list")
    return running if every else [max(running, key=lambda worker: float(worker[measure]))]


def program_of(worker: Worker) -> InspectedProgram:
    """Of the processes of a worker the one that listens; a launcher such as npm comes before it. Otherwise the last one."""
    found = []
    for pid in tree_of(worker["pid"]):
        with contextlib.suppress(OSError):
            name = program_name(pid)
            kind = "node" if is_node(pid) else "python" if name.startswith(("python", "pypy")) else name
            found.append(InspectedProgram(pid, kind, resident_bytes(pid)))
    if not found:
        raise PercoreError(
            f"the processes of {worker['name']} {worker['slot']} cannot be looked at",
            next="run it as the supervisor's user",
        )
    known = [each for each in found if each.kind in ("node", "python")]
    return next((each for each in known if ports_of(each.pid)), (known or found)[-1])


def refuse_others(program: InspectedProgram, worker: Worker) -> None:
    if program.kind != "node":
        raise PercoreError(
            f"{worker['name']} runs {program.kind}: percore looks into Node and Python only",
            next=f"perf record -p {program.pid}, or the tools of {program.kind}",
        )


def target_of(worker: Worker, program: InspectedProgram) -> NodeTarget:
    """A clustered worker of an older percore shares its inspector's port: from this address it is reached by itself."""
    return NodeTarget(
        program.pid, f"127.77.0.{worker['slot'] % 254 + 1}" if worker["mode"] == "cluster" else "127.0.0.1"
    )


def remove_older(directory: str, worker: Worker, count: int) -> None:
    """Of the app, and of no other whose name begins as its name does."""
    own = re.compile(rf"{re.escape(file_name(worker))}-\d+-\d{{8}}T\d{{6}}(-\d+)?\.heapsnapshot")
    found = [
        entry for entry in os.scandir(directory) if own.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
    ]
    for entry in sorted(found, key=lambda entry: entry.stat().st_mtime)[: -max(1, count)]:
        os.unlink(entry.path)


def file_name(worker: Worker) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in worker["name"])


def file_for(directory: str, worker: Worker, ending: str) -> str:
    place = os.path.join(directory, f"{file_name(worker)}-{worker['slot']}-{time.strftime('%Y%m%dT%H%M%S')}")
    paths = (f"{place}{more}.{ending}" for more in ("", *(f"-{number}" for number in range(2, 1000))))
    return next(path for path in paths if not os.path.lexists(path))


@contextlib.contextmanager
def finished(path: str) -> Any:
    """A path beside it, which becomes `path` when it is whole, readable by its owner alone."""
    unfinished = f"{path}.part"
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield unfinished
        os.chmod(unfinished, 0o600)
        os.rename(unfinished, path)
    except OSError as error:
        raise PercoreError(f"it cannot be written: {error.strerror}", where=path, next="--output DIRECTORY") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)


def write_parts(path: str, parts: Iterable[bytes]) -> None:
    """Whole, or not at all. A process that ends in between closes its connection as one that is done."""
    last = b""
    with finished(path) as unfinished, open(unfinished, "wb") as file:
        for number, part in enumerate(parts):
            file.write(part)
            last = (last + part)[-64:]
            if number % _MOST_PARTS_UNCHECKED == 0:
                check_disk(os.path.dirname(path) or os.curdir, -LEAST_FREE // 2)
        file.flush()
        if not last.rstrip().endswith(b"}"):
            raise PercoreError("the worker ended before it was done", next="percore list")


def tell(worker: Worker, path: str, began: float, opens: str) -> None:
    size = short_size(os.stat(path).st_size)
    took = time.monotonic() - began
    say(f"{worker['name']} {worker['slot']}: {size} in {took:.1f} s -> {opens}")
    print(printable(path))
