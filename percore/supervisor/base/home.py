"""The directory of one supervisor (`PERCORE_HOME`) and the names of what lies in it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct

from percore.common.typing import NamedTuple, Optional
from percore.errors import PercoreError

_LONGEST_SOCKET_PATH = 100


class Home(NamedTuple):
    path: str

    @classmethod
    def of_user(cls) -> Home:
        """`$PERCORE_HOME`, or PM2's `$PM2_HOME`, or `~/.percore`; where nothing can be written there, a directory in /tmp."""
        given = os.environ.get("PERCORE_HOME") or os.environ.get("PM2_HOME")
        return cls(os.path.abspath(given or usual_path()))

    @property
    def run(self) -> str:
        return os.path.join(self.path, "run")

    @property
    def logs(self) -> str:
        return os.path.join(self.path, "logs")

    @property
    def control_socket(self) -> str:
        return os.path.join(self.run, "control.sock")

    @property
    def worker_socket(self) -> str:
        return os.path.join(self.run, "worker.sock")

    @property
    def notify_address(self) -> str:
        """What workers find in NOTIFY_SOCKET. A program has no way round a long path, so then it is in another directory."""
        path = os.path.join(self.run, "notify.sock")
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
        return os.path.join(_short_directory(self.run), "notify.sock")

    @property
    def lock(self) -> str:
        return os.path.join(self.run, "lock")

    @property
    def pm2_pid(self) -> str:
        """Where PM2 has its pid, and scripts look for it: a link to the lock."""
        return os.path.join(self.path, "pm2.pid")

    @property
    def state(self) -> str:
        return os.path.join(self.path, "state.json")

    def stdin_of(self, id: int) -> str:
        """The pipe that the standard input of the fork worker with this id is."""
        return os.path.join(self.run, f"stdin-{id}")

    @property
    def dump(self) -> str:
        """What `percore save` wrote."""
        return os.path.join(self.path, "dump.json")

    @property
    def pids(self) -> str:
        return os.path.join(self.path, "pids")

    @property
    def daemon_log(self) -> str:
        return os.path.join(self.logs, "percore.log")

    def make(self) -> None:
        """Directories that no other user can change. Raises OSError; also where another user made them before us."""
        for directory, closed in ((self.path, 0o022), (self.run, 0o077), (self.logs, 0o022)):
            os.makedirs(directory, mode=0o700, exist_ok=True)
            found = os.stat(directory)
            if found.st_uid not in (0, os.geteuid()):
                raise PermissionError(errno.EPERM, "it belongs to another user", directory)
            if found.st_mode & closed and found.st_uid == os.geteuid():
                os.chmod(directory, stat.S_IMODE(found.st_mode) & ~closed)


def usual_path() -> str:
    """Raises PercoreError when the directory in /tmp is not ours."""
    path = os.path.expanduser("~/.percore")
    if not path.startswith("~") and os.access(path if os.path.isdir(path) else os.path.dirname(path), os.W_OK):
        return path
    places = (os.environ.get("TMPDIR", ""), "/tmp", "/run", "/dev/shm")
    place = next((place for place in places if place and os.access(place, os.W_OK)), "")
    return make_private(place) if place else path


def make_private(parent: str) -> str:
    """Our own directory in one that others may write. It is made first and looked at then, so no other user comes in between.

    Raises PercoreError when another user has made it before, or it is open to others.
    """
    path = os.path.join(parent, f"percore-{os.geteuid()}")
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        found = os.lstat(path)
    except OSError as error:
        raise PercoreError(f"it cannot be made: {error.strerror}", where=path, next="set PERCORE_HOME") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PercoreError(
            f"{path} belongs to another user, or is open to others", next="set PERCORE_HOME to a directory of your own"
        )
    return path


def connect(path: str, seconds: float = 0.0) -> socket.socket:
    """A connection to a Unix socket, however long its path; raises OSError.

    Where many wait to be accepted, `seconds` is how long it takes until TimeoutError; 0: for ever.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        limit = struct.pack("ll", int(seconds), 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        with short_path(path) as short:
            sock.connect(short)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bytes(len(limit)))
    except BlockingIOError:
        sock.close()
        raise TimeoutError(None, "no process accepts") from None
    except OSError:
        sock.close()
        raise
    return sock


def listen(path: str, *, user: Optional[int] = None, all_users: bool = False) -> socket.socket:
    """A listening Unix socket at `path`, as `bind` makes it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    bind(sock, path, user=user, all_users=all_users)
    sock.listen(128)
    return sock


def bind(sock: socket.socket, path: str, *, user: Optional[int] = None, all_users: bool = False) -> None:
    """Binds a Unix socket to `path`, in the place of one that a dead supervisor left, for us and `user`, or for all users.

    In a directory that no other user may change.
    """
    if user is not None and user != os.geteuid():
        _bind_as(sock, path, user)
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    mask = os.umask(0o111 if all_users else 0o177)  # the socket is never, not even for a moment, open to others
    try:
        with short_path(path) as short:
            sock.bind(short)
    finally:
        os.umask(mask)


def _bind_as(sock: socket.socket, path: str, user: int) -> None:
    """The user makes it, where only he and we come to: to give away what we made, a unit would need one capability more."""
    private, name = f"{path}.new", os.path.basename(path)
    inner = os.path.join(private, "made")
    made = os.path.join(inner, name)
    for remove, left in ((os.unlink, made), (os.rmdir, inner), (os.rmdir, private)):
        with contextlib.suppress(OSError):
            remove(left)
    os.mkdir(private, 0o700)
    os.mkdir(inner)
    os.chmod(inner, 0o777)
    mask, before = os.umask(0o177), os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(inner)
        ourselves = os.geteuid()
        os.seteuid(user)
        try:
            sock.bind(name)
        finally:
            os.seteuid(ourselves)
        os.rename(made, path)
        os.rmdir(inner)
        os.rmdir(private)
    finally:
        os.fchdir(before)
        os.close(before)
        os.umask(mask)


class short_path:
    """A path that fits into a socket address: through the open directory where it is too long itself."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._directory = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= _LONGEST_SOCKET_PATH:
            return self._path
        self._directory = os.open(os.path.dirname(self._path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._directory}/{os.path.basename(self._path)}"

    def __exit__(self, *_: object) -> None:
        if self._directory >= 0:
            os.close(self._directory)


def _short_directory(parent: str) -> str:
    """A private directory of a short name, which a link in the private directory `parent` remembers. Raises OSError."""
    link = os.path.join(parent, "short")
    with contextlib.suppress(OSError):
        directory = os.readlink(link)
        found = os.lstat(directory)
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022:
            return directory
    import tempfile

    place = next((place for place in ("/run", "/tmp", "/dev/shm") if os.access(place, os.W_OK)), None)
    directory = tempfile.mkdtemp(prefix="percore-", dir=place)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link)
    os.symlink(directory, link)
    return directory
