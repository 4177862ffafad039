"""`depends_on`: which app comes before which. Pure, but for the jobs it takes in that order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from percore.errors import UsageError

Needs = Mapping[str, Sequence[str]]  # by app, the apps it depends on


def refuse_cycle(needs: Needs, *, where: str = "") -> None:
    """Raises UsageError that names the apps which wait for each other."""
    cycle = find_cycle(needs)
    if cycle:
        raise UsageError(
            f"'depends_on' contains a cycle: {' -> '.join(cycle)}", where=where, next="remove one of these dependencies"
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
