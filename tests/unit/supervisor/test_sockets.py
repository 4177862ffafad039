"""Listening sockets, real ones, on loopback."""

from __future__ import annotations

import collections
import os
import socket
from collections.abc import Iterator

import pytest

from percore.supervisor.sockets import (
    Address,
    AddressInUse,
    Listener,
    can_steer_here,
    probe_source,
    source_number,
)


@pytest.fixture
def port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def listener(port: int) -> Iterator[Listener]:
    opened = Listener(Address(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", port), 3, steered=True)
    yield opened
    opened.close()


def queues(listener: Listener) -> dict[tuple[int, int], int]:
    places = [(slot, generation) for slot in range(3) for generation in (0, 1)]
    return {place: listener.queue_length(*place) for place in places if listener.queue_length(*place)}


def connect(listener: Listener, count: int, source: str = "127.0.0.1") -> list[socket.socket]:
    address = ("127.0.0.1", listener.address.port)
    return [socket.create_connection(address, timeout=2, source_address=(source, 0)) for _ in range(count)]


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_this_kernel_can_steer() -> None:
    assert can_steer_here()


def test_new_connections_go_to_the_ready_slots_only(listener: Listener) -> None:
    listener.steer([(0, 0), (2, 1)], {})
    clients = connect(listener, 100)
    found = queues(listener)
    assert set(found) == {(0, 0), (2, 1)}
    assert sum(found.values()) == 100
    close(clients)


def test_a_connection_from_a_slots_own_source_reaches_that_slot(listener: Listener) -> None:
    directed = {
        source_number(slot, incoming=incoming): (slot, int(incoming)) for slot in range(3) for incoming in (False, True)
    }
    listener.steer([(0, 0)], directed)
    for slot in range(3):
        for incoming in (False, True):
            clients = connect(listener, 2, probe_source(slot, incoming=incoming))
            assert queues(listener)[slot, int(incoming)] >= 2
            close(clients)


def test_without_a_ready_slot_the_last_table_stands(listener: Listener) -> None:
    listener.steer([(1, 0)], {})
    listener.steer([], {})
    clients = connect(listener, 10)
    assert queues(listener) == {(1, 0): 10}
    close(clients)


def test_more_slots_can_be_added_while_clients_wait(listener: Listener) -> None:
    listener.steer([(1, 0)], {})
    clients = connect(listener, 5)
    listener.grow(100)
    listener.steer([(99, 1)], {})
    clients += connect(listener, 7)
    assert (listener.queue_length(1, 0), listener.queue_length(99, 1)) == (5, 7)
    close(clients)


def test_a_strangers_port_is_refused_and_the_stranger_named(port: int) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        with pytest.raises(AddressInUse) as caught:
            Listener(Address(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", port), 1, steered=True)
    assert f"(pid {os.getpid()})" in str(caught.value)


def test_a_listener_on_both_families_serves_both(port: int) -> None:
    both = Listener(Address(socket.AF_INET6, socket.SOCK_STREAM, "::", port), 2, steered=True)
    both.steer([(0, 0), (1, 0)], {})
    clients = [socket.create_connection((host, port), timeout=2) for host in ("127.0.0.1", "::1") for _ in range(40)]
    found = collections.Counter(slot for slot in (0, 1) for _ in range(both.queue_length(slot, 0)))
    assert found[0] + found[1] == 80
    assert min(found.values()) > 10
    close(clients)
    both.close()
