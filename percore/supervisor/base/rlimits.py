"""Resource limits that the supervisor changes for itself, and restores for its workers.

Descriptors: as many as the hard limit allows, because 200 workers need a thousand. Workers get the limit that we were given:
programs that use select(2), or close everything they might have, expect it low.

Core dumps: none of the supervisor, because its memory holds the secrets of all apps. Workers get that limit back as well.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

_given = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)}
_MOST = 65536
_M_MMAP_THRESHOLD = -3


def take_descriptors() -> None:
    soft, hard = _given[resource.RLIMIT_NOFILE]
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def forbid_cores() -> None:
    """The hard limit stays, so that workers can get theirs back."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, _given[resource.RLIMIT_CORE][1]))


def share_of_descriptors(parts: int) -> int:
    """How many of our descriptors may go to one kind of use, where there are so many kinds."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (_MOST if soft == resource.RLIM_INFINITY else min(soft, _MOST)) // parts


def give_back() -> None:
    _set(_given)


def _set(limits: Mapping[int, tuple[int, int]]) -> None:
    for kind, limit in limits.items():
        resource.setrlimit(kind, limit)


def give_memory_back() -> None:
    """Large blocks go back to the kernel when they are freed (mallopt(3)): else one long request stays in our memory.

    What the start needed goes back at once (malloc_trim(3)).
    """
    import ctypes

    with suppress(AttributeError):  # a libc without it
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 128 * 1024)
        libc.malloc_trim(0)


@contextmanager
def as_given() -> Iterator[None]:
    """For the moment in which a program is started."""
    ours = {kind: resource.getrlimit(kind) for kind in _given}
    if ours == _given:
        yield
        return
    give_back()
    try:
        yield
    finally:
        _set(ours)
