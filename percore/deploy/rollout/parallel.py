"""Doing something on all hosts at once: what each gave, and the faults of those that gave nothing."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Generic, NamedTuple, Protocol, TypeVar

from percore.common.printable import printable
from percore.deploy.report import Report
from percore.deploy.waiting import waiting_for
from percore.errors import PartialError, PercoreError, PreflightError

Faults = dict[str, PercoreError]
"""By the name of the host."""


class OfHost(Protocol):
    """A host, or what is known of one. `forks` is how many are worked on at the same time."""

    @property
    def name(self) -> str: ...

    @property
    def forks(self) -> int: ...


I = TypeVar("I", bound=OfHost)  # noqa: E741
T = TypeVar("T")


class Outcome(NamedTuple, Generic[T]):
    """By host, in the hosts' order: what the work gave, and why it gave nothing."""

    results: dict[str, T]
    faults: Faults


def on_all(items: Iterable[I], work: Callable[[I], T]) -> Outcome[T]:
    """Do the work on all hosts, many at once. An unexpected exception fails the one host it happened with.

    An interrupt ends the connections, upon which each host rolls back what was not confirmed, and is passed on.
    """
    items = list(items)
    done: dict[str, T | PercoreError] = {}
    left = iter(items)  # one item is taken by one thread: under CPython this needs no lock

    with waiting_for([item.name for item in items]) as waiting:

        def run() -> None:
            for item in left:
                with waiting.on(item.name):
                    done[item.name] = try_one(item, work)

        for thread in _start_threads(run, min(len(items), items[0].forks) if items else 0):
            thread.join()
    ordered = [(item.name, done[item.name]) for item in items if item.name in done]
    return Outcome(
        {name: result for name, result in ordered if not isinstance(result, PercoreError)},
        {name: result for name, result in ordered if isinstance(result, PercoreError)},
    )


def _start_threads(run: Callable[[], None], count: int) -> list[threading.Thread]:
    """As many as the machine allows: each goes on until nothing is left."""
    threads: list[threading.Thread] = []
    for number in range(max(count, 0)):
        thread = threading.Thread(target=run, daemon=True, name=f"hosts-{number}")
        try:
            thread.start()
        except RuntimeError as error:
            if not threads:
                raise PreflightError(f"this machine starts no more threads: {error}", next="see ulimit -u") from None
            break
        threads.append(thread)
    return threads


def try_one(item: I, work: Callable[[I], T]) -> T | PercoreError:
    """What the work gives, or the fault of the host, whatever happened while it was worked on."""
    try:
        return work(item)
    except PercoreError as error:
        return error
    except Exception as error:
        return PercoreError(
            f"unexpected {type(error).__name__}: {printable(str(error))[:1000]}",
            where=item.name,
            next="this is a fault of percore: please report it",
            detail=traceback.format_exc() if _is_debugging() else "",
        )


def _is_debugging() -> bool:
    return bool(os.environ.get("PERCORE_DEBUG")) or "--debug" in sys.argv


def all_or_stop(items: Iterable[I], work: Callable[[I], T], report: Report) -> list[T]:
    """Do the work on all hosts; a fault on one of them stops the run."""
    results, faults = on_all(items, work)
    stop_at(faults, report)
    return list(results.values())


def stop_at(faults: Mapping[str, PercoreError], report: Report) -> None:
    """Raise the gravest of several faults after naming the others."""
    if not faults:
        return
    ranked = sorted(faults.items(), key=lambda pair: not isinstance(pair[1], PartialError))
    for name, error in ranked[1:]:
        report.host(name, str(error).removeprefix(f"{name}: "))
    raise ranked[0][1]


def count_hosts(hosts: Sized) -> str:
    return f"{len(hosts)} {'host' if len(hosts) == 1 else 'hosts'}"
