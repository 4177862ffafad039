"""One health check over TLS or HTTP/2, in a process for the time of it: what that takes stays out of the supervisor's memory.

Executed as a program of its own, with the connection as its standard input. It writes the status line of the answer, or `!` and
what is wrong. Who the certificate names, and who signed it, is not looked at: the connection leads to a worker on this machine.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

_SECONDS = 5
_AGENT = "percore"
_MOST_BYTES = 1 << 20  # before the answer
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7  # kinds of frames (RFC 9113)
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
# HPACK (RFC 7541): the statuses that have a number of their own, and the codes of the digits of all others.
_STATUSES = {8: "200", 9: "204", 10: "206", 11: "304", 12: "400", 13: "404", 14: "500"}
_CODES = {
    **{f"{digit:05b}": str(digit) for digit in range(3)},
    **{f"{digit + 22:06b}": str(digit) for digit in range(3, 10)},
}


def ask_through(connection: socket.socket, protocol: str, host: str, path: str) -> socket.socket:
    """Starts the process; what comes over the returned socket is what it writes. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-I", "-S", os.path.abspath(__file__), protocol, host, path]
        places = [
            (os.POSIX_SPAWN_DUP2, connection.fileno(), 0),
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        os.posix_spawn(command[0], command, os.environ, setsid=True, setsigmask=(), file_actions=places)
    return ours


def main() -> None:
    protocol, host, path = sys.argv[1:]
    signal.alarm(_SECONDS)  # whoever waits for us has given up by then
    connection = socket.socket(fileno=0)
    connection.setblocking(True)
    try:
        answer = _over_tls(connection, host, path) if protocol == "https" else _http2(connection, protocol, host, path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        answer = f"! {'it does not speak TLS there' if reason == 'WRONG_VERSION_NUMBER' else reason}"
    os.write(1, f"{answer}\r\n".encode(errors="replace"))


def _over_tls(connection: socket.socket, host: str, path: str) -> str:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1", "h2"])
    with context.wrap_socket(connection, server_hostname=host.partition(":")[0]) as stream:
        if stream.selected_alpn_protocol() == "h2":
            return _http2(stream, "https", host, path)
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {_AGENT}\r\nConnection: close\r\n\r\n"
        stream.sendall(request.encode())
        return stream.makefile("rb").readline(_MOST_BYTES).decode("latin-1").strip()


# -- HTTP/2 ----------------------------------------------------------------------------------------------------------


def _http2(stream: socket.socket, protocol: str, host: str, path: str) -> str:
    """The status line that HTTP/1 would have."""
    head = b"\x82" + (b"\x87" if protocol == "https" else b"\x86")  # GET, and the scheme
    head += b"".join(_literal(number, text) for number, text in ((4, path), (1, host), (58, _AGENT)))
    stream.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_STREAM | _END_HEADERS, 1, head))
    reader = stream.makefile("rb")
    read = 0
    while read < _MOST_BYTES:
        header = reader.read(9)
        if header[:5] == b"HTTP/":
            raise ValueError("it speaks HTTP/1 there")
        if len(header) < 9:
            raise ValueError("it hung up")
        length, kind, flags, number = (
            int.from_bytes(header[:3], "big"),
            header[3],
            header[4],
            int.from_bytes(header[5:], "big"),
        )
        content = reader.read(min(length, _MOST_BYTES))
        read += 9 + len(content)
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            stream.sendall(_frame(kind, _ACK, 0, content if kind == _PING else b""))
        elif kind == _GOAWAY or (kind == _RESET and number == 1):
            raise ValueError("it refused the request in HTTP/2")
        elif kind == _HEADERS and number == 1 and (status := status_in(_fields_of(content, flags)))[0] != "1":
            return f"HTTP/2 {status}"
    raise ValueError("its answer has no end")


def _frame(kind: int, flags: int, number: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + content


def _literal(name: int, text: str) -> bytes:
    """A header with a known name, which is not to be remembered."""
    value = text.encode()
    return _number(name, 4) + _number(len(value), 7) + value


def _number(value: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((value,))
    value, rest = value - most, bytearray((most,))
    while value >= 128:
        rest.append(value % 128 + 128)
        value //= 128
    return bytes((*rest, value))


def _fields_of(content: bytes, flags: int) -> bytes:
    """Of a frame with headers, without what fills it up."""
    content = content[1 : len(content) - content[0]] if flags & _PADDED and content else content
    return content[5:] if flags & _PRIORITY else content


def status_in(fields: bytes) -> str:
    """The status, which is the first field of an answer. Raises ValueError."""
    while fields and fields[0] & 0xE0 == 0x20:  # the size of a table that we have no use for
        last = 0
        if fields[0] & 0x1F == 0x1F:
            last = next((at for at in range(1, len(fields)) if fields[at] < 128), len(fields))
        fields = fields[last + 1 :]
    if fields and fields[0] & 0x80 and (fields[0] & 0x7F) in _STATUSES:
        return _STATUSES[fields[0] & 0x7F]
    # A text under the name of one of those; or, from 0x40 on, one that is to be remembered.
    is_literal = len(fields) > 1 and (fields[0] & 0x3F if fields[0] & 0x40 else fields[0] & 0x0F) in _STATUSES
    length = fields[1] & 0x7F if is_literal else 0
    value = fields[2 : 2 + length]
    status = _spelled(value) if is_literal and fields[1] & 0x80 else value.decode("latin-1")
    if len(status) != 3 or not status.isdigit():
        raise ValueError("its answer has no status")
    return status


def _spelled(value: bytes) -> str:
    bits, found = "".join(f"{byte:08b}" for byte in value), ""
    while len(found) < 3:
        code = next((bits[:size] for size in (5, 6) if bits[:size] in _CODES), None)
        if code is None:
            break
        found, bits = found + _CODES[code], bits[len(code) :]
    return found


if __name__ == "__main__":
    main()
