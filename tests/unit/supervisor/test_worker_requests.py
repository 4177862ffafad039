"""What arrives on the worker socket, and what is found in a store: read with types, whatever it is."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percore.common import connections
from percore.supervisor.config.address import Address
from percore.supervisor.sockets.worker_requests import Request, parse_request
from percore.supervisor.state import fd_store
from percore.supervisor.state.fd_store import FdStore, StoreEntry, ends_among, name_of, open_sockets, read_entry
from percore.supervisor.state.rescue import is_channel, is_listener_of

INET = struct.pack("=H", socket.AF_INET) + bytes.fromhex("0bb87f000001") + bytes(8)
UNIX = struct.pack("=H", socket.AF_UNIX)


def bind(raw: bytes, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> bytes:
    return f"bind abc 12 {int(family)} {int(kind)} 0 {raw.hex()}\n".encode()


def test_what_workers_send_is_understood() -> None:
    address = Address(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", 3000)
    assert parse_request(bind(INET)) == Request("bind", "abc", address)
    path = parse_request(bind(UNIX + b"/a b/s\xc3\xb6ck\0", socket.AF_UNIX)).address
    assert path == Address(socket.AF_UNIX, socket.SOCK_STREAM, "/a b/söck", 0)
    assert parse_request(b"drain-me abc 12\n") == Request("drain-me", "abc")
    assert parse_request(b"alone abc 12\n") == Request("alone", "abc")


@pytest.mark.parametrize(
    "line",
    [
        bind(struct.pack("=H", socket.AF_INET) + bytes(6)),  # the kernel chooses
        bind(UNIX + b"\0abstract", socket.AF_UNIX),
        bind(UNIX + b"/a\nb\0", socket.AF_UNIX),
        bind(UNIX + b"/\xff\0", socket.AF_UNIX),
        bind(UNIX + b"/a\0", socket.AF_UNIX, socket.SOCK_DGRAM),
        bind(struct.pack("=H", 17) + bytes(20), 17),
        bind(struct.pack("=H", socket.AF_INET6) + b"\x0b\xb8" + bytes(20) + b"\1\0\0\0", socket.AF_INET6),
    ],
)
def test_what_cannot_be_shared_is_left_to_the_program(line: bytes) -> None:
    assert parse_request(line).address is None


@pytest.mark.parametrize(
    "line",
    [
        bind(INET, kind=3), bind(INET, family=socket.AF_INET6), bind(INET[:6]), bind(UNIX + b"/" * 120, socket.AF_UNIX),
        bind(INET)[:-1], bind(INET) + b"x", bind(INET).replace(b"12", b"99999999999"), b"", b"\n", b"drain-me abc\n",
    ],
)  # fmt: skip
def test_what_no_worker_sends_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_request(line)


SOCKADDRS = st.tuples(st.binary(max_size=128), st.integers(0, 999), st.integers(0, 9))


@settings(deadline=None)
@given(
    st.one_of(st.binary(max_size=1024), st.binary(max_size=128).map(bind), SOCKADDRS.map(lambda parts: bind(*parts)))
)
def test_any_bytes_are_a_request_or_refused(line: bytes) -> None:
    with contextlib.suppress(ValueError):
        request = parse_request(line)
        assert request.address is None or request.address.host.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(deadline=None)
@given(JSON)
def test_any_name_in_a_store_is_an_entry_or_refused(content: object) -> None:
    with contextlib.suppress(ValueError):
        entry = read_entry(json.dumps(content))
        assert read_entry(name_of(entry)) == entry


def test_an_entry_is_read_as_it_was_written() -> None:
    address = Address(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", 3000)
    for entry in (StoreEntry("api", address, (0, 2, 1)), StoreEntry("token")):
        assert read_entry(name_of(entry)) == entry
    for name in ("[" * 100_000, '["api",2,1,"::1",80,false,[0,0]]', '["api",2,1,"::1",80,false,[-1]]', '["a",1]', "1"):
        with pytest.raises(ValueError, match=r"."):
            read_entry(name)


@settings(deadline=None)
@given(st.one_of(st.binary(min_size=1, max_size=300), JSON.map(lambda content: json.dumps(content).encode())))
def test_any_filling_of_a_store_is_one_or_refused_and_no_descriptor_is_left(text: bytes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    forged = FdStore()
    with socket.socket() as sock:
        socket.send_fds(forged._ends[0], [text], [sock.fileno()])
        found = {}
        with contextlib.suppress(ValueError):
            found = forged.look()
        for descriptor in [descriptor for descriptors in found.values() for descriptor in descriptors]:
            os.close(descriptor)
    forged.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_store_is_a_pair_that_our_own_user_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def pair(kind: int) -> list[int]:
        return [end.detach() for end in socket.socketpair(socket.AF_UNIX, kind)]

    ends = ends_among(pair(socket.SOCK_SEQPACKET))
    assert ends
    for end in ends:
        end.close()
    assert ends_among(pair(socket.SOCK_STREAM)) is None
    assert ends_among(list(os.pipe())) is None
    assert ends_among(pair(socket.SOCK_SEQPACKET)[:1]) is None
    made = pair(socket.SOCK_SEQPACKET)
    monkeypatch.setattr(fd_store.os, "geteuid", lambda: 54321)
    assert ends_among(made) is None


def test_a_listener_is_what_its_address_says_and_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock, socket.create_connection(sock.getsockname()) as client:
        address = Address(socket.AF_INET, socket.SOCK_STREAM, *sock.getsockname())
        assert is_listener_of(address, sock)
        assert not is_listener_of(address._replace(port=1), sock)
        assert not is_listener_of(address._replace(host="127.0.0.2"), sock)
        assert not is_listener_of(address._replace(type=socket.SOCK_DGRAM), sock)
        assert not is_listener_of(address, client)
        accepted, _ = sock.accept()
        with accepted:  # bound there as well
            assert not is_listener_of(address, accepted)
        monkeypatch.setattr(fd_store.os, "geteuid", lambda: 54321)
        assert not is_listener_of(address, sock)


def test_a_channel_is_an_end_of_a_pair(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(socket.AF_UNIX) as door, socket.socket(socket.AF_UNIX) as client:
        assert is_channel(ours)
        door.bind(str(tmp_path / "s"))
        door.listen()
        client.connect(str(tmp_path / "s"))
        assert not is_channel(client)
        assert not is_channel(door)
    read, write = os.pipe()
    assert open_sockets([read, write]) == []


def test_the_memory_of_a_worker_is_read_with_a_bound(tmp_path: Path) -> None:
    """Under the name of our library it maps a file of its own, which is three gigabytes long."""
    import mmap

    path = tmp_path / "bindshim-x.so"
    path.touch()
    os.truncate(path, 3 << 30)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    else:
        path.chmod(0o666)
    with path.open("rb") as file, mmap.mmap(
        file.fileno(), 3 << 30, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
    ):  # fmt: skip
        before = peak_memory()
        assert connections.accepted_by(os.getpid()) is None
        assert peak_memory() - before < 1 << 14


def peak_memory() -> int:
    """In kilobytes."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
