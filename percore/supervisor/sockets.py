"""Listening sockets that outlive every worker, and the kernel program that steers connections among the ready ones.

One address of an app = two SO_REUSEPORT sockets per slot, generation A and B: the running worker accepts on one, and
during a reload the incoming worker gets the other. They are opened one at a time, because the kernel numbers them by the
order of listen(), and never closed while the app is wanted: connections that wait in a dead worker's queue are answered by
its successor. A classic BPF program, rewritten in microseconds, picks the socket of a new connection:

- source 127.77.0.(slot+1): the current worker of that slot; 127.76.0.(slot+1): its incoming one. This is how the
  supervisor reaches one worker through the shared port; no other machine can send from 127/8;
- otherwise a random one of the ready slots.

UDP and Unix addresses, and kernels without this feature, get one socket that all workers of the app accept from.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from percore.errors import PercoreError

_SO_ATTACH_REUSEPORT_CBPF = 51
_BACKLOG = 4096
CURRENT_NET = 127 << 24 | 77 << 16
INCOMING_NET = 127 << 24 | 76 << 16


class Address(NamedTuple):
    """What a program asked to bind. `host` is a numeric address, or a path for AF_UNIX (then `port` is 0)."""

    family: int
    type: int
    host: str
    port: int
    v6only: bool = False

    def __str__(self) -> str:
        if self.family == socket.AF_UNIX:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" + ("/udp" if self.type == socket.SOCK_DGRAM else "")

    @classmethod
    def from_sockaddr(cls, family: int, kind: int, v6only: bool, raw: bytes) -> Address:
        """From the bytes of a `struct sockaddr`; raises ValueError for a family that cannot be shared."""
        if family == socket.AF_INET:
            return cls(family, kind, socket.inet_ntop(family, raw[4:8]), int.from_bytes(raw[2:4], "big"))
        if family == socket.AF_INET6:
            port = int.from_bytes(raw[2:4], "big")
            return cls(family, kind, socket.inet_ntop(family, raw[8:24]), port, v6only)
        if family == socket.AF_UNIX:
            return cls(family, kind, os.fsdecode(raw[2:].split(b"\0", 1)[0]), 0)
        raise ValueError(f"address family {family}")

    @property
    def can_steer(self) -> bool:
        return self.type == socket.SOCK_STREAM and self.family in (socket.AF_INET, socket.AF_INET6)

    @property
    def probe_host(self) -> Optional[str]:
        """The IPv4 address at which the supervisor reaches this listener, or None."""
        if self.type != socket.SOCK_STREAM:
            return None
        if self.family == socket.AF_INET:
            return "127.0.0.1" if self.host == "0.0.0.0" else self.host
        return "127.0.0.1" if self.family == socket.AF_INET6 and self.host == "::" and not self.v6only else None


class AddressInUse(PercoreError):
    """Somebody who is not this app holds the address."""


class Listener:
    """The sockets of one address of one app."""

    def __init__(self, address: Address, slots: int, *, steered: bool) -> None:
        """Opens the sockets for `slots` slots. Raises AddressInUse, or OSError as bind() would in the program."""
        self.address = address
        self.steered = steered and address.can_steer
        self.sockets: list[socket.socket] = []
        self._steered_to: object = None
        if address.family == socket.AF_UNIX:
            _remove_stale_path(address.host)
        else:
            _refuse_strangers(address)
        self.grow(slots)

    @classmethod
    def recovered(cls, address: Address, sockets: Sequence[socket.socket], *, steered: bool) -> Listener:
        """A listener from the sockets an earlier supervisor opened, in its order."""
        listener = cls.__new__(cls)
        listener.address, listener.steered = address, steered and address.can_steer
        listener.sockets, listener._steered_to = list(sockets), None
        return listener

    def grow(self, slots: int) -> None:
        """Opens what is missing for `slots` slots; never closes any, so that indices stay."""
        wanted = 2 * slots if self.steered else 1
        while len(self.sockets) < wanted:
            self.sockets.append(self._open())

    def _open(self) -> socket.socket:
        address = self.address
        sock = socket.socket(address.family, address.type)
        try:
            if self.steered:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if address.type == socket.SOCK_STREAM and address.family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.v6only)
            sock.bind(address.host if address.family == socket.AF_UNIX else (address.host, address.port))
            if address.type == socket.SOCK_STREAM:
                sock.listen(_BACKLOG)
        except OSError:
            sock.close()
            raise
        return sock

    def index(self, slot: int, generation: int) -> int:
        return 2 * slot + generation if self.steered else 0

    def socket_for(self, slot: int, generation: int) -> socket.socket:
        return self.sockets[self.index(slot, generation)]

    def steer(self, ready: Sequence[tuple[int, int]], directed: Mapping[int, tuple[int, int]]) -> None:
        """New connections go to the `ready` (slot, generation) pairs; those from a source address in `directed` to that one."""
        if not self.steered or not ready:
            return
        wish = (list(ready), dict(directed), len(self.sockets))
        if self._steered_to == wish:
            return
        program = steering_program(
            [self.index(*place) for place in ready],
            {source: self.index(*place) for source, place in directed.items() if place[0] * 2 < len(self.sockets)},
        )
        attach(self.sockets[0], program)
        self._steered_to = wish

    def queue_length(self, slot: int, generation: int) -> int:
        """Connections that were made and not yet accepted."""
        return queue_length(self.socket_for(slot, generation)) if self.address.type == socket.SOCK_STREAM else 0

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()
        if self.address.family == socket.AF_UNIX and self.sockets:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address.host)
        self.sockets = []


def queue_length(sock: socket.socket) -> int:
    """tcpi_unacked of a listening socket is the length of its accept queue (tcp(7), and /proc/net/tcp shows the same)."""
    if sock.family == socket.AF_UNIX:
        return 0
    return int(struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0])


def steering_program(ready: Sequence[int], directed: Mapping[int, int]) -> bytes:
    """The BPF program: `directed` maps an IPv4 source (as a number) to a socket index; the rest is random over `ready`."""
    load_byte, load_word, shift, mask, modulo, equal, jump, give = 0x30, 0x20, 0x74, 0x54, 0x94, 0x15, 0x05, 0x06
    net, random_word = -0x100000 & 0xFFFFFFFF, -0x1000 + 56 & 0xFFFFFFFF

    def step(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, k)

    chosen = b"".join(step(equal, source, 0, 1) + step(give, index) for source, index in directed.items())
    pairs = len(chosen) // 8
    by_source = [
        step(load_byte, net),
        step(shift, 4),
        step(equal, 4, 1, 0),  # only IPv4 packets have a source to look at
        step(jump, 5 + pairs),  # 32-bit jumps reach over any number of slots
        step(load_word, net + 12),
        step(mask, 0xFFFE0000),
        step(equal, INCOMING_NET, 1, 0),  # 127.76/15 holds both nets of directed probes
        step(jump, 1 + pairs),
        step(load_word, net + 12),
    ]
    last = len(ready) - 1
    at_random = [step(load_word, random_word), step(modulo, len(ready))]
    at_random += [step(equal, i, 0, 1) + step(give, index) for i, index in enumerate(ready[:last])]
    at_random.append(step(give, ready[last]))
    return b"".join(by_source) + chosen + b"".join(at_random)


def attach(sock: socket.socket, program: bytes) -> None:
    """Gives the whole reuseport group of `sock` this program, at once and without losing a connection."""
    steps = array.array("B", program)
    header = struct.pack("HP", len(program) // 8, steps.buffer_info()[0])
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, header)


def probe_source(slot: int, *, incoming: bool) -> str:
    """The address to connect from, to reach that worker and no other through the shared port."""
    number = (INCOMING_NET if incoming else CURRENT_NET) + slot + 1
    return socket.inet_ntoa(struct.pack("!I", number))


def source_number(slot: int, *, incoming: bool) -> int:
    return (INCOMING_NET if incoming else CURRENT_NET) + slot + 1


def can_steer_here() -> bool:
    """Tries steering on loopback: some sandboxed kernels lack it, or have it and ignore it."""
    try:
        listener = Listener(Address(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", 0), 0, steered=True)
        try:
            listener.sockets.append(listener._open())
            port = listener.sockets[0].getsockname()[1]
            listener.address = listener.address._replace(port=port)
            listener.grow(2)
            listener.steer([(0, 0)], {source_number(1, incoming=True): (1, 1)})
            for source, place in (("127.0.0.1", (0, 0)), (probe_source(1, incoming=True), (1, 1))) * 4:
                with socket.create_connection(("127.0.0.1", port), timeout=1, source_address=(source, 0)):
                    accepting = listener.socket_for(*place)
                    accepting.setblocking(False)
                    accepting.accept()[0].close()
        finally:
            listener.close()
    except OSError:
        return False
    return True


def _refuse_strangers(address: Address) -> None:
    """A plain bind fails exactly when somebody else listens; our own group would let a foreign REUSEPORT socket in."""
    if address.port == 0:
        return
    with socket.socket(address.family, address.type) as trial:
        if address.type == socket.SOCK_STREAM:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.v6only)
        try:
            trial.bind((address.host, address.port))
            if address.type == socket.SOCK_STREAM:
                trial.listen(1)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            holder = find_holder(address)
            raise AddressInUse(
                f"port {address.port} is already in use" + (f" by {holder}" if holder else ""),
                next="stop that program, or give the app another port",
            ) from None


def _remove_stale_path(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as trial:
        try:
            trial.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            return
        else:
            raise AddressInUse(f"{path} is already in use", next="stop the program that listens there")


def find_holder(address: Address) -> str:
    """'node (pid 123)' for the process that listens on the port, or empty: other users' processes hide theirs."""
    inodes = set()
    names = ("udp", "udp6") if address.type == socket.SOCK_DGRAM else ("tcp", "tcp6")
    for name in names:
        try:
            with open(f"/proc/net/{name}") as table:
                for line in list(table)[1:]:
                    fields = line.split()
                    is_listening = fields[3] == ("07" if address.type == socket.SOCK_DGRAM else "0A")
                    if is_listening and int(fields[1].rpartition(":")[2], 16) == address.port:
                        inodes.add(f"socket:[{fields[9]}]")
        except OSError:
            continue
    for pid in filter(str.isdigit, os.listdir("/proc")) if inodes else ():
        try:
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") in inodes:
                    with open(f"/proc/{pid}/comm") as file:
                        return f"{file.read().strip()} (pid {pid})"
        except OSError:
            continue
    return ""
