"""`depends_on`: which app comes before which. Pure, but for the jobs it takes in that order."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence

from percore.errors import PercoreError, UsageError
from percore.hints import Optional

Needs = Mapping[str, Sequence[str]]  # by app, the apps it depends on
Job = Generator[None, None, None]


def refuse_cycle(needs: Needs, *, where: str = "") -> None:
    """Raises UsageError that names the apps which wait for each other."""
    cycle = find_cycle(needs)
    if cycle:
        raise UsageError(
            f"'depends_on' goes in a circle: {' -> '.join(cycle)}", where=where, next="take one of these away"
        )


def find_cycle(needs: Needs) -> list[str]:
    """One circle, its first app also last; empty when there is none."""
    settled: set[str] = set()
    for start in needs:
        line = [start]
        ways = [iter(needs[start])]
        while ways:
            name = next(ways[-1], None)
            if name is None:
                settled.add(line.pop())
                ways.pop()
            elif name in line:
                return [*line[line.index(name) :], name]
            elif name in needs and name not in settled:
                line.append(name)
                ways.append(iter(needs[name]))
    return []


def in_order(names: Iterable[str], needs: Needs) -> list[str]:
    """Each app after those it depends on; else the order stays as it is. There must be no circle."""
    found: list[str] = []

    def add(name: str) -> None:
        if name not in found and name in wanted:
            for need in needs.get(name, ()):
                add(need)
            found.append(name)

    wanted = list(names)
    for name in wanted:
        add(name)
    return found


def reversed_needs(needs: Needs) -> dict[str, list[str]]:
    """For stopping: who must be down before each app."""
    return {name: [other for other, its in needs.items() if name in its] for name in needs}


class Blocked(PercoreError):
    """Not done, because an app that it depends on failed."""

    def __init__(self, name: str, need: str, reason: str) -> None:
        super().__init__(f"it was not started, because '{need}', which it depends on, {reason}", where=name)
        self.app = name


def do_in_order(jobs: Mapping[str, Job], needs: Needs, blocked: Optional[dict[str, Blocked]] = None) -> Job:
    """All at once, but each only when those it needs are done. `blocked` receives those whose needs failed.

    The first failure is raised when all is over; it names the apps that were not done because of it.
    """
    waiting = dict(jobs)
    running: dict[str, Job] = {}
    failures: dict[str, PercoreError] = {}
    held: dict[str, Blocked] = {} if blocked is None else blocked
    try:
        while waiting or running:
            for name in list(waiting):
                lost = [need for need in needs.get(name, ()) if need in failures or need in held]
                if lost:
                    waiting.pop(name).close()
                    held[name] = Blocked(name, lost[0], "failed" if lost[0] in failures else "was not started")
                elif not any(need in waiting or need in running for need in needs.get(name, ())):
                    running[name] = waiting.pop(name)
            has_ended = _advance(running, failures)
            if running and not (has_ended and waiting):
                yield
    finally:
        for job in (*running.values(), *waiting.values()):
            job.close()
    for error in failures.values():
        if held:
            error.what += f"; not started because of that: {', '.join(held)}"
        raise error


def _advance(running: dict[str, Job], failures: dict[str, PercoreError]) -> bool:
    """One step of each; True when one is over, and with that gone from `running`."""
    has_ended = False
    for name, job in list(running.items()):
        try:
            next(job)
            continue
        except StopIteration:
            pass
        except PercoreError as error:
            failures[name] = error
        del running[name]
        has_ended = True
    return has_ended
