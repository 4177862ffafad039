"""Listening sockets, real ones, on loopback."""

from __future__ import annotations

import collections
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.supervisor.config.address import Address, AddressInUse
from percore.supervisor.sockets import reuseport_bpf, unix
from percore.supervisor.sockets.listener import Listener
from percore.supervisor.sockets.reuseport_bpf import ProbeSource, open_from
from percore.supervisor.sockets.sharing import Mode, Sharing, find_sharing
from tests.waiting import free_port


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def listener(port: int) -> Iterator[Listener]:
    opened = Listener(Address(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", port), 3)
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
    assert find_sharing() == Sharing(Mode.STEERED)


def test_new_connections_go_to_the_ready_slots_only(listener: Listener) -> None:
    listener.steer([(0, 0), (2, 1)], {})
    clients = connect(listener, 100)
    found = queues(listener)
    assert set(found) == {(0, 0), (2, 1)}
    assert sum(found.values()) == 100
    close(clients)


def test_a_connection_from_a_slots_own_source_reaches_that_slot(listener: Listener) -> None:
    directed = {ProbeSource(slot, incoming): (slot, int(incoming)) for slot in range(3) for incoming in (False, True)}
    listener.steer([(0, 0)], directed)
    for slot in range(3):
        for incoming in (False, True):
            clients = connect(listener, 2, ProbeSource(slot, incoming).host)
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
            Listener(Address(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", port), 1)
    assert f"(pid {os.getpid()})" in str(caught.value)


def test_a_listener_on_both_families_serves_both(port: int) -> None:
    both = Listener(Address(socket.AF_INET6, socket.SOCK_STREAM, "::", port), 2)
    both.steer([(0, 0), (1, 0)], {})
    clients = [socket.create_connection((host, port), timeout=2) for host in ("127.0.0.1", "::1") for _ in range(40)]
    found = collections.Counter(slot for slot in (0, 1) for _ in range(both.queue_length(slot, 0)))
    assert found[0] + found[1] == 80
    assert min(found.values()) > 10
    close(clients)
    both.close()


@pytest.mark.parametrize(
    ("family", "host", "v6only"),
    [(socket.AF_INET, "0.0.0.0", False), (socket.AF_INET6, "::", False), (socket.AF_INET6, "::", True),
     (socket.AF_INET6, "::1", True)],
)  # fmt: skip
def test_a_group_is_put_right_after_a_worker_shut_two_of_its_sockets_down(
    family: int, host: str, v6only: bool, port: int
) -> None:
    listener = Listener(Address(family, socket.SOCK_STREAM, host, port, v6only), 3)
    directed = {ProbeSource(slot, incoming): (slot, int(incoming)) for slot in range(3) for incoming in (False, True)}
    listener.steer([(1, 0)], directed)
    waiting = socket.create_connection((listener.address.probe_host or "", port), timeout=2)
    assert queues(listener) == {(1, 0): 1}
    for shut in (listener.socket_for(0, 1), listener.socket_for(2, 0)):
        shut.shutdown(socket.SHUT_RDWR)
    listener.repair()
    assert sorted(listener.order) == list(range(6))
    assert listener.order != list(range(6))
    assert queues(listener) == {(1, 0): 1}, "finding the order reached a worker"
    for source, place in directed.items():
        with open_from(source, listener.address.probe_host or "") as client:
            client.connect_ex((listener.address.probe_host, port))
            assert listener.queue_length(*place) == 1 + (place == (1, 0)), (source, place)
    waiting.close()
    listener.close()


def test_what_is_left_of_a_group_is_made_whole_while_clients_come(port: int) -> None:
    listener = Listener(Address(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", port), 2)
    left = {index: listener.sockets[index].dup() for index in (0, 3)}
    listener.close()
    clients = [socket.create_connection(("127.0.0.1", port), timeout=2)]
    rescued = Listener.rescued(listener.address, left, 2, Mode.STEERED)
    clients += [socket.create_connection(("127.0.0.1", port), timeout=2) for _ in range(20)]
    assert rescued.queue_length(0, 0) + rescued.queue_length(1, 1) == 21
    rescued.steer([(1, 0)], {})
    clients.append(socket.create_connection(("127.0.0.1", port), timeout=2))
    assert rescued.queue_length(1, 0) == 1
    close(clients)
    rescued.close()


def test_sockets_whose_order_cannot_be_tried_are_still_told_apart_after_a_rescue(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    """On a machine too busy for the trial: the living are the first of the group, what is opened anew joins at its end."""
    listener = Listener(Address(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", port), 2)
    left = {index: listener.sockets[index].dup() for index in (0, 2)}
    listener.close()
    monkeypatch.setattr(reuseport_bpf, "find_order", lambda *_: None)
    rescued = Listener.rescued(listener.address, left, 2, Mode.STEERED)
    rescued.steer([(0, 0), (1, 0)], {}, again=True)
    clients = [socket.create_connection(("127.0.0.1", port), timeout=2) for _ in range(40)]
    assert rescued.queue_length(0, 0) + rescued.queue_length(1, 0) == 40
    close(clients)
    rescued.close()


@pytest.mark.parametrize(
    ("ours", "other", "is_both"),
    [
        ("0.0.0.0", "127.0.0.1", True),
        ("::", "127.0.0.1", True),
        ("127.0.0.1", "::1", False),
        ("127.0.0.1", "127.0.0.2", False),
    ],
)
def test_addresses_overlap_where_a_connection_could_be_meant_for_both(ours: str, other: str, is_both: bool) -> None:
    first, second = (
        Address(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, host, 80)
        for host in (ours, other)
    )
    assert first.overlaps(second) == second.overlaps(first) == is_both
    assert not first.overlaps(second._replace(port=81))


def test_a_link_that_came_in_the_place_of_a_socket_gives_no_right_to_what_it_leads_to(tmp_path: Path) -> None:
    other, path, made = tmp_path / "other", tmp_path / "app.sock", tmp_path / "made.sock"
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as own:
        sock.bind(str(made))
        made.chmod(0o666)
        with socket.socket(socket.AF_UNIX) as secret:
            secret.bind(str(other))
        other.chmod(0o600)
        path.symlink_to(other)
        unix.take_path(str(path), made.stat())
        assert stat.S_IMODE(other.stat().st_mode) == 0o600
        path.unlink()
        own.bind(str(path))
        unix.take_path(str(path), made.stat())
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
