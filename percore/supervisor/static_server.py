"""A server of static files: what runs where a process file says `script: "serve"`. A separate program, not part of the daemon.

Configured by PM2's variables (docs/reference/serve.md), so that no password is in its arguments.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import errno
import hmac
import html
import io
import itertools
import os
import posixpath
import re
import resource
import select
import signal
import socket
import socketserver
import stat
import sys
import threading
import time
import urllib.parse
from collections.abc import Mapping
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler
from typing import Any, BinaryIO, NamedTuple, Optional

_IDLE_SECONDS = 5.0  # until a request begins, or goes on
_HEAD_SECONDS = 10.0  # for all of its head
_STALLED_SECONDS = 60.0  # in which a client must take so many bytes of an answer:
_LEAST_BYTES = 64 * 1024
_PART_BYTES = 1 << 20
_MOST_CLIENTS = 512
_FULL_SECONDS = 0.1  # between two looks whether there is room again
_PUBLIC = ".well-known"  # the one hidden directory that is meant to be seen (RFC 8615)


class Settings(NamedTuple):
    root: str
    host: str
    port: int
    spa: bool = False  # a path that is no file gives the home page, or the file of that name in the root
    homepage: str = "/index.html"
    listing: bool = False
    credentials: bytes = b""  # empty: everybody may read

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Settings:
        """Raises ValueError with a sentence."""

        def is_on(name: str) -> bool:
            return env.get(name, "") in ("true", "1")

        root = os.path.realpath(env.get("PM2_SERVE_PATH") or ".")
        if not os.path.isdir(root):
            raise ValueError(f"there is no directory {root} (PM2_SERVE_PATH)")
        port = env.get("PM2_SERVE_PORT") or env.get("PORT") or "8080"
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"PM2_SERVE_PORT must be a port between 1 and 65535, not '{port}'")
        user, password = env.get("PM2_SERVE_BASIC_AUTH_USERNAME", ""), env.get("PM2_SERVE_BASIC_AUTH_PASSWORD", "")
        if is_on("PM2_SERVE_BASIC_AUTH") and not (user and password):
            raise ValueError(
                "PM2_SERVE_BASIC_AUTH needs PM2_SERVE_BASIC_AUTH_USERNAME and PM2_SERVE_BASIC_AUTH_PASSWORD"
            )
        return cls(
            root,
            env.get("PM2_SERVE_HOST") or "0.0.0.0",
            int(port),
            spa=is_on("PM2_SERVE_SPA"),
            homepage=env.get("PM2_SERVE_HOMEPAGE") or "/index.html",
            listing=is_on("PM2_SERVE_FTP") or is_on("PM2_SERVE_DIRECTORY"),
            credentials=f"{user}:{password}".encode() if user and password else b"",
        )


class Head(io.RawIOBase):
    """Reads a request, for as long as its head may take."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.limit = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.limit - time.monotonic()
        if left <= 0:
            raise socket.timeout("the head of a request takes too long")
        self._connection.settimeout(min(left, _IDLE_SECONDS))
        return self._connection.recv_into(buffer)


class Handler(SimpleHTTPRequestHandler):
    server: FileServer
    headers: Any = {}  # noqa: RUF012 - of a request that is none
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "percore", ""
    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".webp": "image/webp", ".avif": "image/avif", ".svg": "image/svg+xml", ".woff2": "font/woff2", ".map": "application/json",
    }  # fmt: skip

    def setup(self) -> None:
        super().setup()
        self._head = Head(self.connection)
        self.rfile = io.BufferedReader(self._head)

    def handle_one_request(self) -> None:
        self._head.limit = time.monotonic() + _HEAD_SECONDS
        self.headers = {}
        self.server.note_reading(self.connection)
        super().handle_one_request()

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def end_headers(self) -> None:
        if (
            self.server.is_stopping
            or self.headers.get("Content-Length", "0") != "0"
            or "Transfer-Encoding" in self.headers
        ):
            self.close_connection = True  # a body that is not read would be taken for the next request
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Access-Control-Allow-Origin", "*")  # to everybody who may read them
        super().end_headers()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Only what went wrong is logged."""

    def log_error(self, format: str, *args: Any) -> None:
        if args and isinstance(args[0], int) and args[0] >= 500:
            super().log_error(format, *args)

    # -- what is asked for -------------------------------------------------------------------------------------------

    def _answer(self, *, with_body: bool) -> None:
        self.server.note_answering(self.connection)
        self.connection.settimeout(_STALLED_SECONDS)
        settings = self.server.settings
        if not is_allowed(self.headers, settings.credentials):
            self._send_text(
                HTTPStatus.UNAUTHORIZED, "", with_body=with_body, headers={"WWW-Authenticate": 'Basic realm="files"'}
            )
            return
        parts = split_path(self.path)
        found = find(settings.root, parts)
        if parts is not None and found and os.path.isdir(found):
            asked = "/".join(["", *map(urllib.parse.quote, parts)])
            if not urllib.parse.urlsplit(self.path).path.endswith("/"):
                self._send_text(
                    HTTPStatus.MOVED_PERMANENTLY, "", with_body=with_body, headers={"Location": f"{asked}/"}
                )
                return
            index = find(settings.root, [*parts, "index.html"])
            if settings.listing and not (index and os.path.isfile(index)):
                self._send_text(HTTPStatus.OK, listing(found, "/" + "/".join(parts)), with_body=with_body)
                return
            found = index
        self._send_found(found, parts, with_body=with_body)

    def _send_found(self, found: Optional[str], parts: Optional[list[str]], *, with_body: bool) -> None:
        settings = self.server.settings
        tries = [(found, HTTPStatus.OK)]
        if settings.spa and parts is not None:
            # A page of the app below a path asks for its files there, too; john.doe is a page.
            is_asset = bool(parts) and self.guess_type(parts[-1]) != "application/octet-stream"
            place = parts[-1:] if is_asset else split_path(settings.homepage)
            tries.append((find(settings.root, place), HTTPStatus.OK))
        tries.append((find(settings.root, ["404.html"]), HTTPStatus.NOT_FOUND))
        for path, status in tries:
            if path is None:
                continue
            with contextlib.suppress(OSError), open_file(path) as file:
                self._send_file(file, path, status, with_body=with_body)
                return
        self._send_text(
            HTTPStatus.NOT_FOUND, "<!doctype html><title>Not found</title><p>Not found\n", with_body=with_body
        )

    # -- answers -----------------------------------------------------------------------------------------------------

    def _send_file(self, file: BinaryIO, path: str, status: HTTPStatus, *, with_body: bool) -> None:
        facts = os.fstat(file.fileno())
        tag = f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"'
        first, end = 0, facts.st_size
        if status == HTTPStatus.OK:
            if is_known(self.headers, tag, facts.st_mtime):
                status, end = HTTPStatus.NOT_MODIFIED, 0
            elif wanted := wanted_range(self.headers, facts.st_size, tag):
                status, (first, end) = HTTPStatus.PARTIAL_CONTENT, wanted
                if first >= end:
                    self._send_text(
                        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                        "",
                        with_body=with_body,
                        headers={"Content-Range": f"bytes */{facts.st_size}"},
                    )
                    return
        self.send_response(status)
        self.send_header("ETag", tag)
        self.send_header("Last-Modified", self.date_time_string(int(facts.st_mtime)))
        if status != HTTPStatus.NOT_MODIFIED:
            kind = self.guess_type(path)
            self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
            self.send_header("Content-Length", str(end - first))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("X-Content-Type-Options", "nosniff")
        if status == HTTPStatus.PARTIAL_CONTENT:
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{facts.st_size}")
        self.end_headers()
        if with_body and end > first:
            self._send_part(file, first, end)

    def _send_part(self, file: BinaryIO, first: int, end: int) -> None:
        """As long as the client takes it, and not too slowly. Raises OSError."""
        goal = limit = 0.0
        writable = select.poll()
        writable.register(self.connection, select.POLLOUT)
        while first < end:
            now = time.monotonic()
            if first >= goal:
                goal, limit = first + _LEAST_BYTES, now + _STALLED_SECONDS
            if not writable.poll(max(0.0, limit - now) * 1000):
                raise socket.timeout("the client takes the answer too slowly")
            with contextlib.suppress(BlockingIOError):
                sent = self._send_some(file, first, min(_PART_BYTES, end - first))
                if sent == 0:  # it became shorter: what was promised cannot be kept
                    self.close_connection = True
                    return
                first += sent

    def _send_some(self, file: BinaryIO, first: int, count: int) -> int:
        try:
            return os.sendfile(self.connection.fileno(), file.fileno(), first, count)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            return int(self.connection.send(os.pread(file.fileno(), count, first)))  # a file system that cannot do it

    def _send_text(
        self, status: HTTPStatus, text: str, *, with_body: bool, headers: Optional[dict[str, str]] = None
    ) -> None:
        body = text.encode(errors="surrogateescape")
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


# -- what the headers of a request ask for ----------------------------------------------------------------------------


def is_allowed(headers: Mapping[str, str], credentials: bytes) -> bool:
    if not credentials:
        return True
    scheme, _, given = headers.get("Authorization", "").partition(" ")
    try:
        decoded = base64.b64decode(given, validate=True)
    except ValueError:
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(decoded, credentials)


def is_known(headers: Mapping[str, str], tag: str, changed: float) -> bool:
    known = headers.get("If-None-Match")
    if known is not None:
        return known.strip() == "*" or tag in [part.strip().removeprefix("W/") for part in known.split(",")]
    since = headers.get("If-Modified-Since", "")
    try:
        return bool(since) and int(changed) <= email.utils.parsedate_to_datetime(since).timestamp()
    except (TypeError, ValueError, OverflowError):
        return False


def wanted_range(headers: Mapping[str, str], size: int, tag: str) -> Optional[tuple[int, int]]:
    """From, up to; nothing in between when there is no such part. None: the whole file."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", headers.get("Range", "").strip())
    if not match or not any(match.groups()) or headers.get("If-Range", tag) != tag:
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size
    if match[2] and int(match[2]) < int(match[1]):
        return None
    return int(match[1]), min(size, int(match[2]) + 1) if match[2] else size


# -- files ------------------------------------------------------------------------------------------------------------


def split_path(url: str) -> Optional[list[str]]:
    """The parts of the path in a request; None when it names something hidden, or nothing that can be a file."""
    path = urllib.parse.unquote(url.partition("?")[0].partition("#")[0], errors="surrogateescape")
    parts = [part for part in posixpath.normpath("/" + path.lstrip("/")).split("/") if part]
    return None if "\0" in path or any(map(is_hidden, parts)) else parts


def is_hidden(name: str) -> bool:
    return name.startswith(".") and name != _PUBLIC


def find(root: str, parts: Optional[list[str]]) -> Optional[str]:
    """Where that is; None when a link leads out of the root, or to something hidden."""
    if parts is None:
        return None
    path = os.path.realpath(os.path.join(root, *parts))
    inside = os.path.relpath(path, root).split(os.sep)
    return None if inside != ["."] and any(map(is_hidden, inside)) else path  # `..` counts as hidden


def open_file(path: str) -> BinaryIO:
    """Raises OSError; also for what is no regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(path)
    return os.fdopen(descriptor, "rb")


def listing(directory: str, title: str) -> str:
    names = sorted(
        entry.name + ("/" if entry.is_dir() else "") for entry in os.scandir(directory) if not is_hidden(entry.name)
    )
    rows = "".join(
        f'<li><a href="./{urllib.parse.quote(name, errors="surrogateescape")}">{html.escape(name)}</a>\n'
        for name in names
    )
    above = '<li><a href="../">..</a>\n' if title != "/" else ""
    head = f"<!doctype html>\n<meta charset=utf-8><title>{html.escape(title)}</title>\n<h1>{html.escape(title)}</h1>\n"
    return f"{head}<ul>\n{above}{rows}</ul>\n"


# -- the server -------------------------------------------------------------------------------------------------------


class FileServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = False  # who is being served when we stop gets all of it
    request_queue_size = 1024

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.is_stopping = False
        self.address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self._clients: set[socket.socket] = set()
        self._reading: dict[socket.socket, None] = {}  # those of whom we wait for a request, the longest first
        self._lock = threading.Lock()
        # Each has its connection and a file.
        self._most = max(1, min(_MOST_CLIENTS, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 32) // 2))
        super().__init__((settings.host, settings.port), Handler)
        self.socket.setblocking(False)  # of several workers on one socket only one gets the connection

    def serve(self, stop: int) -> None:
        """Until `stop` is readable; then until everybody who is connected has an answer."""
        while True:
            watched = [self.fileno(), stop] if self._has_room() else [stop]
            ready = select.select(watched, [], [], None if len(watched) > 1 else _FULL_SECONDS)[0]
            if stop in ready:
                break
            if ready and not self._accept():
                select.select([stop], [], [], _FULL_SECONDS)
        self.is_stopping = True
        self.server_close()

    def _accept(self) -> bool:
        """False where we lack something, which the next try would lack as well."""
        try:
            connection, address = self.get_request()
        except (BlockingIOError, ConnectionAbortedError):
            return True
        except OSError:
            return False
        with self._lock:
            self._clients.add(connection)
        try:
            self.process_request(connection, address)
        except RuntimeError:  # no thread can be started
            self.shutdown_request(connection)
            return False
        return True

    def _has_room(self) -> bool:
        """Where all places are taken, the clients go that have kept us waiting longest."""
        with self._lock:
            if len(self._clients) < self._most:
                return True
            for connection in list(itertools.islice(self._reading, self._most // 8 + 1)):
                del self._reading[connection]
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            return False

    def note_reading(self, connection: socket.socket) -> None:
        with self._lock:
            self._reading[connection] = None

    def note_answering(self, connection: socket.socket) -> None:
        with self._lock:
            self._reading.pop(connection, None)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._clients.discard(request)
            self._reading.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; anything else is one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError, socket.timeout)):
            sys.stderr.write(f"{client_address[0]}: {error!r}\n")


def main() -> None:
    try:
        settings = Settings.from_environment(os.environ)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    for name in ("PM2_SERVE_BASIC_AUTH_PASSWORD", "PM2_SERVE_BASIC_AUTH_USERNAME"):
        os.environ.pop(name, None)
    stop_read, stop_write = os.pipe()
    os.set_blocking(stop_write, False)
    signal.set_wakeup_fd(stop_write)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    try:
        server = FileServer(settings)
    except OSError as error:
        raise SystemExit(f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}") from None
    print(f"serving {settings.root} on {settings.host}:{settings.port}", flush=True)
    server.serve(stop_read)
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()


if __name__ == "__main__":
    main()
