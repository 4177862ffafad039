"""One thread tells all agents that we are there, and starts and ends with them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from percore.deploy.connection import signs_of_life
from percore.deploy.connection.signs_of_life import SignsOfLife
from percore.deploy.connection.ssh_links import is_writable
from tests.waiting import wait_for


class Told:
    """Counts what it is told; from the moment that it `ended` there is nothing more to say."""

    def __init__(self) -> None:
        self.times = 0
        self.ended = False

    def say_alive(self) -> bool:
        self.times += 1
        return not self.ended


class Broken(Told):
    def say_alive(self) -> bool:
        self.times += 1
        raise RuntimeError("the link is in no state that anybody foresaw")


def threads() -> int:
    return sum(thread.name == "signs-of-life" for thread in threading.enumerate())


def wait_until(met: Callable[[], bool]) -> None:
    wait_for(met, "the signs of life")


def test_hundreds_are_told_by_one_thread_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs_of_life, "MOST_A_SECOND", 30_000)
    signs, told = SignsOfLife(0.001), [Told() for _ in range(300)]
    for each in told:
        signs.add(each.say_alive)
    assert threads() == 1
    wait_until(lambda: all(each.times >= 3 for each in told))
    for each in told:
        signs.remove(each.say_alive)
    wait_until(lambda: threads() == 0)


@pytest.mark.parametrize("kind", [Told, Broken])
def test_who_has_nothing_more_to_hear_is_told_no_more_and_the_others_are(kind: type[Told]) -> None:
    signs, gone, there = SignsOfLife(0.01), kind(), Told()
    gone.ended = True
    signs.add(gone.say_alive)
    signs.add(there.say_alive)
    wait_until(lambda: there.times >= 5)
    assert gone.times == 1
    signs.remove(there.say_alive)


def test_after_the_last_has_gone_the_next_is_told_again() -> None:
    signs, first, second = SignsOfLife(0.01), Told(), Told()
    signs.add(first.say_alive)
    signs.remove(first.say_alive)
    wait_until(lambda: threads() == 0)
    signs.add(second.say_alive)
    wait_until(lambda: second.times >= 2)
    signs.remove(second.say_alive)


def test_a_link_that_takes_nothing_more_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        assert is_writable(ours)
        try:
            while True:
                ours.send(b"x" * 65536)
        except BlockingIOError:
            assert not is_writable(ours)
