"""The kernel program that picks the socket of each new connection, and proof of what it does.

A classic BPF program, rewritten in microseconds and attached to the whole group of SO_REUSEPORT sockets, gives a connection
- from the source of one worker (below) to that worker: so the supervisor reaches each of them through the shared port;
- otherwise to a random one of the ready sockets.

The source of a worker: over IPv4 the address 127.77.0.(slot+1), for the incoming worker of a slot 127.76.0.(slot+1); over
IPv6, where loopback has but one address, a separate hop limit. No other machine can send from 127/8 or ::1.
"""

from __future__ import annotations

import array
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence

from percore.common.socket_peers import INCOMING_NET, source_host, source_number
from percore.common.typing import NamedTuple, Optional

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_MEMINFO = 55
_DROPS = 8  # place in what SO_MEMINFO tells

_BOTH_NETS = 0xFFFE0000
# Where `find_order` sends from: within the nets that the program looks at, above any slot.
_TRIAL_NUMBER = INCOMING_NET + 0xFFFF
_TRIAL_HOPS = 253
_TRIAL_SECONDS = 1.0  # what comes later than that would be taken for the answer to the next trial
# Without the hop limits that systems begin with.
_HOPS = [hops for hops in range(1, _TRIAL_HOPS) if hops not in (64, 128)]

_LOAD_BYTE, _LOAD_WORD, _SHIFT, _MASK, _MODULO, _EQUAL, _JUMP, _GIVE = 0x30, 0x20, 0x74, 0x54, 0x94, 0x15, 0x05, 0x06
_NET, _RANDOM = -0x100000 & 0xFFFFFFFF, -0x1000 + 56 & 0xFFFFFFFF


class ProbeSource(NamedTuple):
    """Where a connection to one worker alone comes from."""

    slot: int
    incoming: bool

    @property
    def number(self) -> int:
        """Its IPv4 address, as a number."""
        return source_number(self.slot, incoming=self.incoming)

    @property
    def host(self) -> str:
        return source_host(self.slot, incoming=self.incoming)

    @property
    def hops(self) -> Optional[int]:
        """Its IPv6 hop limit; None for slots that none is left for."""
        number = 2 * self.slot + self.incoming
        return _HOPS[number] if number < len(_HOPS) else None


def open_from(source: Optional[ProbeSource], host: str) -> socket.socket:
    """A socket, not blocking, whose connection to `host` reaches the worker of `source`. Raises OSError."""
    is_v6 = ":" in host
    sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if source and is_v6:
            _send_from_loopback(sock, source.hops or 64)
        elif source:
            sock.bind((source.host, 0))
    except OSError:
        sock.close()
        raise
    return sock


def _send_from_loopback(sock: socket.socket, hops: int) -> None:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
    sock.bind(("::1", 0))


def steering_program(
    ready: Sequence[int], directed: Mapping[ProbeSource, int], *, v6: bool = False, trial: int = -1
) -> bytes:
    """`directed` maps a source to the index of a socket; the rest is random over `ready`. With `v6`, sources are IPv6 ones.

    `trial`: where connections from `find_order` go.
    """
    codes = {(source.hops if v6 else source.number): index for source, index in directed.items()}
    codes[_TRIAL_HOPS if v6 else _TRIAL_NUMBER] = trial
    chosen = b"".join(
        _step(_EQUAL, code, 0, 1) + _step(_GIVE, index) for code, index in codes.items() if code and index >= 0
    )
    last = len(ready) - 1
    at_random = [_step(_LOAD_WORD, _RANDOM), _step(_MODULO, len(ready))]
    at_random += [_step(_EQUAL, i, 0, 1) + _step(_GIVE, index) for i, index in enumerate(ready[:last])]
    at_random.append(_step(_GIVE, ready[last]))
    return (_if_from_loopback_v6 if v6 else _if_from_probes_v4)(chosen) + chosen + b"".join(at_random)


def _step(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, k)


def _if_from_probes_v4(chosen: bytes) -> bytes:
    """Goes on to `chosen` with the source address, or over it."""
    length = len(chosen) // 8
    return b"".join(
        [
            _step(_LOAD_BYTE, _NET),
            _step(_SHIFT, 4),
            _step(_EQUAL, 4, 1, 0),  # only IPv4 packets have such a source to look at
            _step(_JUMP, 5 + length),  # 32-bit jumps reach over any number of slots
            _step(_LOAD_WORD, _NET + 12),
            _step(_MASK, _BOTH_NETS),
            _step(_EQUAL, INCOMING_NET, 1, 0),
            _step(_JUMP, 1 + length),
            _step(_LOAD_WORD, _NET + 12),
        ]
    )


def _if_from_loopback_v6(chosen: bytes) -> bytes:
    """Goes on to `chosen` with the hop limit when the source is ::1, or over it."""
    length = len(chosen) // 8
    steps = [_step(_LOAD_BYTE, _NET), _step(_SHIFT, 4), _step(_EQUAL, 6, 1, 0), _step(_JUMP, 13 + length)]
    for place, word in enumerate((0, 0, 0, 1)):
        steps += [
            _step(_LOAD_WORD, _NET + 8 + 4 * place),
            _step(_EQUAL, word, 1, 0),
            _step(_JUMP, 10 - 3 * place + length),
        ]
    return b"".join([*steps, _step(_LOAD_BYTE, _NET + 7)])


def attach(sock: socket.socket, program: bytes, option: int = _SO_ATTACH_REUSEPORT_CBPF) -> None:
    """Gives the whole group of `sock` this program, at once and without losing a connection. Raises OSError."""
    steps = array.array("B", program)
    header = struct.pack("HP", len(program) // 8, steps.buffer_info()[0])
    sock.setsockopt(socket.SOL_SOCKET, option, header)


# -- which socket has which number -----------------------------------------------------------------------------------


def find_order(sockets: Sequence[socket.socket], host: str, port: int, ready: Sequence[int]) -> Optional[list[int]]:
    """The kernel's number of each of these sockets, found by trying; None when that does not work here.

    The kernel numbers a group in the order of listen(), and moves numbers when a socket leaves. So a SYN is sent to every
    number; every socket drops it, by its filter, and counts that. No worker and no client notices: whatever does not
    come from here goes to the numbers in `ready`.
    """
    is_v6 = ":" in host
    found: dict[int, int] = {}
    try:
        for sock in sockets:
            attach(sock, _drop_trials(v6=is_v6), _SO_ATTACH_FILTER)
        for number in range(len(sockets) + 8):  # other processes of our own user may have joined the group
            if len(found) == len(sockets):
                break
            attach(sockets[0], steering_program(ready, {}, v6=is_v6, trial=number))
            dropped = _socket_that_drops(sockets, host, port, expected=number)
            if dropped is not None and dropped not in found.values():
                found[number] = dropped
    except OSError:
        return None
    finally:
        for sock in sockets:
            try:
                sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            except OSError:
                continue
    by_socket = {index: number for number, index in found.items()}
    return [by_socket[index] for index in range(len(sockets))] if len(by_socket) == len(sockets) else None


def _drop_trials(*, v6: bool) -> bytes:
    """A socket filter (not a program for the group): nothing of what comes from a trial, all of the rest."""
    if v6:
        find = _if_from_loopback_v6(bytes(16)) + _step(_EQUAL, _TRIAL_HOPS, 0, 1)
    else:
        find = _if_from_probes_v4(bytes(16)) + _step(_EQUAL, _TRIAL_NUMBER, 0, 1)
    return find + _step(_GIVE, 0) + _step(_GIVE, 0xFFFFFFFF)


def _socket_that_drops(sockets: Sequence[socket.socket], host: str, port: int, *, expected: int) -> Optional[int]:
    order = sorted(range(len(sockets)), key=lambda index: index != expected)
    before = [_drops(sock) for sock in sockets]
    is_v6 = ":" in host
    with socket.socket(
        socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
    ) as trial:
        if is_v6:
            _send_from_loopback(trial, _TRIAL_HOPS)
        else:
            trial.bind((socket.inet_ntoa(struct.pack("!I", _TRIAL_NUMBER)), 0))
        trial.connect_ex((host, port))
        deadline = time.monotonic() + _TRIAL_SECONDS
        while time.monotonic() < deadline:  # loopback is done when connect() returns, unless the machine is very busy
            for index in order:
                if _drops(sockets[index]) != before[index]:
                    return index
            if select.select([], [trial], [], 0.005)[1]:
                return None  # another process's socket took it
    return None


def _drops(sock: socket.socket) -> int:
    return int(struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))[_DROPS])
