"""The folder of one supervisor (`PERCORE_HOME`) and the names of what lies in it."""

from __future__ import annotations

import contextlib
import os
import socket
import zlib

from percore.errors import PercoreError
from percore.hints import NamedTuple, Optional

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_LONGEST_SOCKET_PATH = 100


class Home(NamedTuple):
    path: str

    @classmethod
    def of_user(cls) -> Home:
        """`$PERCORE_HOME`, or PM2's `$PM2_HOME`, or `~/.percore`; where nothing can be written there, a folder in /tmp."""
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
        """What workers find in NOTIFY_SOCKET. A program has no way round a long path, so then the name is an abstract one."""
        path = os.path.join(self.run, "notify.sock")
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
        return f"@percore-{os.geteuid()}-{zlib.crc32(os.fsencode(path)):08x}"

    @property
    def lock(self) -> str:
        return os.path.join(self.run, "lock")

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
    def spools(self) -> str:
        """What workers write for the scribe."""
        return os.path.join(self.logs, "spool")

    @property
    def scribe_plan(self) -> str:
        return os.path.join(self.run, "scribe", "plan.json")

    @property
    def scribe_lock(self) -> str:
        return os.path.join(self.run, "scribe", "lock")

    @property
    def pids(self) -> str:
        return os.path.join(self.path, "pids")

    @property
    def daemon_log(self) -> str:
        return os.path.join(self.logs, "percore.log")

    def make(self) -> None:
        """Private folders; raises OSError."""
        for folder in (self.path, self.run, self.logs):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.stat(self.run).st_mode & 0o077:
            os.chmod(self.run, 0o700)


def usual_path() -> str:
    """Raises PercoreError when the folder in /tmp is not ours."""
    path = os.path.expanduser("~/.percore")
    if not path.startswith("~") and os.access(path if os.path.isdir(path) else os.path.dirname(path), os.W_OK):
        return path
    places = (os.environ.get("TMPDIR", ""), "/tmp", "/run", "/dev/shm")
    place = next((place for place in places if place and os.access(place, os.W_OK)), "")
    if not place:
        return path
    path = os.path.join(place, f"percore-{os.geteuid()}")
    if os.path.lexists(path) and (os.path.islink(path) or os.stat(path).st_uid != os.geteuid()):
        raise PercoreError(f"{path} belongs to somebody else", next="set PERCORE_HOME to a folder of your own")
    return path


def connect(path: str) -> socket.socket:
    """A connection to a Unix socket, however long its path; raises OSError."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        with _short(path) as short:
            sock.connect(short)
    except OSError:
        sock.close()
        raise
    return sock


def listen(path: str, *, everybody: bool = False) -> socket.socket:
    """A listening Unix socket at `path`, as `bind` makes it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    bind(sock, path, everybody=everybody)
    sock.listen(128)
    return sock


def bind(sock: socket.socket, path: str, *, everybody: bool = False) -> None:
    """Binds a Unix socket to `path`, for its owner only or for everybody, in the place of one that a dead supervisor left."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    mask = os.umask(0o111 if everybody else 0o177)  # the socket is never, not even for a moment, open to others
    try:
        with _short(path) as short:
            sock.bind(short)
    finally:
        os.umask(mask)


class _short:
    """A path that fits into a socket address: through the open folder where it is too long itself."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= _LONGEST_SOCKET_PATH:
            return self._path
        self._folder = os.open(os.path.dirname(self._path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._folder}/{os.path.basename(self._path)}"

    def __exit__(self, *_: object) -> None:
        if self._folder >= 0:
            os.close(self._folder)


class Preload(NamedTuple):
    """The files that workers load: the bind shim (None where none was built for this machine) and Node's part."""

    shim: Optional[str]
    node: str


def place_preload(parent: str) -> Preload:
    """Copies both files to a folder in `parent` named by their content: an upgrade never pulls them from under a worker."""
    contents = {}
    for name in (f"bindshim-{os.uname().machine}.so", "preload.cjs"):
        try:
            with open(os.path.join(_PACKAGE, name), "rb") as file:
                contents[name] = file.read()
        except FileNotFoundError:
            continue
    folder = os.path.join(parent, f"preload-{zlib.crc32(b''.join(contents.values())):08x}")
    if os.statvfs(parent).f_flag & os.ST_NOEXEC:  # a container's tmpfs: no library is loaded from there
        shim = os.path.join(_PACKAGE, f"bindshim-{os.uname().machine}.so")
        return Preload(shim if os.path.exists(shim) else None, os.path.join(_PACKAGE, "preload.cjs"))
    if any(character in folder for character in " :"):  # LD_PRELOAD separates its entries by both
        import tempfile

        folder = tempfile.mkdtemp(prefix="percore-")
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o755)  # whatever our umask is: workers of other users read it, too
    for name, content in contents.items():
        target = os.path.join(folder, name)
        if not os.path.exists(target):
            with open(f"{target}.new", "wb") as file:
                file.write(content)
            os.chmod(f"{target}.new", 0o644)
            os.rename(f"{target}.new", target)
    shim = os.path.join(folder, f"bindshim-{os.uname().machine}.so")
    return Preload(shim if os.path.exists(shim) else None, os.path.join(folder, "preload.cjs"))
