"""Descriptors that wait in a socket pair for the next supervisor."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from percore.supervisor.state.fd_store import FdStore


@pytest.fixture
def kept() -> Iterator[int]:
    with socket.socket() as sock:
        yield sock.fileno()


def found_in(store: FdStore) -> dict[str, int]:
    """How many of each name a successor finds; it is given the ends in the other order, as may happen."""
    successor = FdStore(tuple(socket.socket(fileno=os.dup(fd)) for fd in reversed(store.fds)))  # type: ignore[arg-type]
    found = successor.look()
    successor.close()
    for descriptors in found.values():
        for descriptor in descriptors:
            assert not os.get_inheritable(descriptor)
            os.close(descriptor)
    return {name: len(descriptors) for name, descriptors in found.items()}


def test_the_store_gives_back_what_was_put_in_last_however_often_it_is_looked_at(kept: int) -> None:
    store = FdStore()
    store.put({"one": [kept], "many": [kept] * 300})
    store.put({"many": [kept] * 301, "few": [kept] * 2})
    for _ in range(3):
        assert found_in(store) == {"many": 301, "few": 2}
    store.put({})
    assert found_in(store) == {}
    store.close()


def test_it_gives_back_the_very_same_sockets(kept: int) -> None:
    store = FdStore()
    store.put({"many": [kept] * 3})
    found = FdStore(store._ends).look()["many"]
    assert {os.fstat(descriptor).st_ino for descriptor in found} == {os.fstat(kept).st_ino}
    for descriptor in found:
        os.close(descriptor)
    store.close()


@pytest.mark.parametrize("sent", [0, 1, 2, 3])
def test_a_supervisor_that_dies_while_it_fills_the_store_leaves_one_whole_filling(
    kept: int, monkeypatch: pytest.MonkeyPatch, sent: int
) -> None:
    """It dies after the `sent` first messages of three, or after the last one and before those of before are gone."""
    store = FdStore()
    store.put({"old": [kept] * 300})
    real, count = store._ends[0], 0

    class Dying:
        def sendmsg(self, *arguments: object) -> None:
            nonlocal count
            count += 1
            if count > sent:
                raise KeyboardInterrupt
            real.sendmsg(*arguments)  # type: ignore[arg-type]

    store._ends = (Dying(), store._ends[1])  # type: ignore[assignment]
    monkeypatch.setattr(store, "_drop", lambda _: None)
    try:
        store.put({"new": [kept] * 700})
    except KeyboardInterrupt:
        pass
    finally:
        store._ends = (real, store._ends[1])
    assert found_in(store) == ({"new": 700} if sent == 3 else {"old": 300})
    store.close()


def test_the_store_holds_a_hundred_apps_with_two_hundred_channels(kept: int) -> None:
    store = FdStore()
    shelves = {f"app{number}, 0.0.0.0, 5000": [kept] * 4 for number in range(100)}
    shelves.update({os.urandom(12).hex(): [kept] for _ in range(200)})
    store.put(shelves)
    store.put({**shelves, "more": [kept]})
    assert found_in(store) == {**{name: len(fds) for name, fds in shelves.items()}, "more": 1}
    store.close()


def test_a_successor_goes_on_filling_where_the_one_before_it_died(kept: int) -> None:
    store = FdStore()
    store.put({"a": [kept]})
    successor = FdStore(store._ends)
    for descriptor in successor.look()["a"]:
        os.close(descriptor)
    successor.put({"b": [kept]})
    assert found_in(store) == {"b": 1}
    store.close()
