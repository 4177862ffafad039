"""What the kernel knows about sockets, asked by netlink (sock_diag(7)): one port costs microseconds, on busy hosts too."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterator

from percore.common.procfs import sockets_of, tree_of
from percore.common.typing import Any, NamedTuple, Optional
from percore.supervisor.config.address import Address

_NETLINK_SOCK_DIAG, _BY_FAMILY, _ONE, _REQUEST_DUMP, _DONE, _ERROR = 4, 20, 0x1, 0x301, 3, 2
_LISTEN, _OPEN = 1 << 10, 1 << 1 | 1 << 8  # ESTABLISHED, and CLOSE_WAIT: the client may have said all it has to say
_INFO = 2
_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
_SOCKET = struct.Struct("=4B2s2s16s16s12s5I")
_UNIX_REQUEST, _UNIX_SOCKET_SIZE = struct.Struct("=BBHIIIII"), 16  # struct unix_diag_req, struct unix_diag_msg
_UNIX_FILE, _SHOW_UNIX_FILE, _ANY_COOKIE = 1, 2, 0xFFFFFFFF
_ANY_END = struct.pack("=3I", 0, _ANY_COOKIE, _ANY_COOKIE)  # the interface, and the cookie


class Waiting(NamedTuple):
    """A listening socket."""

    address: Address
    inode: int


# A client that has connected may take this long until it asks; one that never asks keeps no worker from ending.
_FIRST_REQUEST_MS = 500


class TcpConnection(NamedTuple):
    inode: int  # 0 until it is accepted
    is_busy: bool  # the client's last word has no answer yet
    idle_ms: int  # since a byte came or went


def waiting_on(port: int) -> Iterator[Waiting]:
    """Everybody's listening sockets on this port. Raises OSError where the kernel tells nothing."""
    for message, _ in _ask(port, _LISTEN):
        family, host = message[0], message[6]
        address = socket.inet_ntop(family, host[:4] if family == socket.AF_INET else host)
        yield Waiting(Address(family, socket.SOCK_STREAM, address, port), message[-1])


def connections_to(port: int) -> Iterator[TcpConnection]:
    """The server's ends of the connections to this port. Raises OSError where the kernel tells nothing."""
    for message, info in _ask(port, _OPEN):
        _, unread, unsent, _, inode = message[-5:]
        sent, received = struct.unpack_from("=I4xI", info, 44) if len(info) >= 56 else (0, 0)  # milliseconds ago
        # The clock of those two is a coarse one; of a first request the counts tell exactly.
        acknowledged, arrived = struct.unpack_from("=QQ", info, 120) if len(info) >= 136 else (1, 1)
        is_first = acknowledged == 0 and (arrived > 0 or received < _FIRST_REQUEST_MS)
        yield TcpConnection(inode, bool(unread or unsent or received < sent or is_first), min(sent, received))


def is_serving(pid: int, ports: Collection[int], *, idle_ms: int = 0) -> bool:
    """True while a client of the process, or of one below it, has said something and not been answered.

    With `idle_ms`, also while it has a connection that something went over since. False where the kernel tells nothing.
    """
    try:
        known = [connection for port in ports for connection in connections_to(port)]
    except OSError:
        return False
    used = {connection.inode for connection in known if connection.is_busy or connection.idle_ms < idle_ms}
    return bool(used) and any(used & sockets_of(member).keys() for member in tree_of(pid))


def count_unanswered(pid: int, ports: Collection[int]) -> int:
    """How many clients of the process, or of one below it, wait for an answer; 0 also where the kernel tells nothing."""
    try:
        busy = {connection.inode for port in ports for connection in connections_to(port) if connection.is_busy}
    except OSError:
        return 0
    return len({inode for member in tree_of(pid) for inode in busy & sockets_of(member).keys()}) if busy else 0


class TcpEnd(NamedTuple):
    """One end of a connection."""

    uid: int
    inode: int  # 0 until it is accepted


def find_end(ours: tuple[str, int], other: tuple[str, int]) -> Optional[TcpEnd]:
    """The end at the address `ours`; None where it is not there. Raises OSError where the kernel tells nothing."""
    family = socket.AF_INET6 if ":" in ours[0] else socket.AF_INET
    hosts = b"".join(socket.inet_pton(family, host).ljust(16, b"\0") for host, _ in (ours, other))
    wanted = struct.pack("=4BI", family, socket.IPPROTO_TCP, 0, 0, _OPEN) + struct.pack("!2H", ours[1], other[1])
    for content in _dump(wanted + hosts + _ANY_END, is_one=True):
        if len(content) >= _SOCKET.size:
            return TcpEnd(*map(int, _SOCKET.unpack_from(content)[-2:]))
    return None


def file_of_unix(sock: socket.socket) -> int:
    """The inode (32 bits of it) that a Unix socket was bound to; 0 for none. Raises OSError where the kernel tells nothing."""
    inode = os.fstat(sock.fileno()).st_ino
    wanted = _UNIX_REQUEST.pack(
        socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode & 0xFFFFFFFF, _SHOW_UNIX_FILE, _ANY_COOKIE, _ANY_COOKIE
    )
    for content in _dump(wanted, is_one=True):
        attributes = dict(_split(content[_UNIX_SOCKET_SIZE:], _ATTRIBUTE))
        return int(struct.unpack_from("=I", attributes.get(_UNIX_FILE, bytes(4)))[0])
    return 0


def _ask(port: int, states: int) -> Iterator[tuple[Any, bytes]]:
    """Each socket's message, and its tcp_info."""
    for family in (socket.AF_INET, socket.AF_INET6):
        wanted = struct.pack("=4BI", family, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, states)
        for content in _dump((wanted + port.to_bytes(2, "big")).ljust(56, b"\0")):
            attributes = dict(_split(content[_SOCKET.size :], _ATTRIBUTE))
            yield _SOCKET.unpack_from(content), attributes.get(_INFO, b"")


def _dump(request: bytes, *, is_one: bool = False) -> Iterator[bytes]:
    """What the kernel answers, message by message; `is_one`: it is asked for one socket. Raises OSError."""
    kind = _ONE if is_one else _REQUEST_DUMP
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(1)
        netlink.send(_HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, kind, 0, 0) + request)
        is_done = False
        while not is_done:
            text, sender = netlink.recvfrom(1 << 17)
            for kind, content in _split(text, _HEADER) if sender[0] == 0 else ():  # 0: the kernel itself
                is_done = is_one or kind in (_DONE, _ERROR)
                if kind == _ERROR:
                    raise _refusal(content)
                if kind == _BY_FAMILY and len(content) >= (_UNIX_SOCKET_SIZE if is_one else _SOCKET.size):
                    yield content


def _refusal(content: bytes) -> OSError:
    number = -struct.unpack_from("=i", content)[0] if len(content) >= 4 else 0
    return OSError(number, "the kernel tells nothing about sockets")


def _split(text: bytes, header: struct.Struct) -> Iterator[tuple[int, bytes]]:
    """Netlink's messages, or the attributes of one: each begins with its length; (kind, content)."""
    while len(text) >= header.size:
        length, kind = header.unpack_from(text)[:2]
        if length < header.size:
            return
        yield kind, text[header.size : length]
        text = text[(length + 3) & ~3 :]
