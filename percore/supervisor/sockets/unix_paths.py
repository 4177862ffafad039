"""Unix sockets at paths that a program, or a process file, names: what is no socket there, or not ours, stays as it is."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

from percore.common.typing import Optional
from percore.supervisor.config.address import AddressInUse
from percore.supervisor.home import short_path
from percore.supervisor.sockets import sock_diag

FileId = tuple[int, int]


def socket_at(path: str) -> Optional[FileId]:
    """Which socket the path itself names; None where there is none, or something else. A link is something else."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None


def remove_stale(path: str) -> None:
    """Makes room where a process that is gone left its socket. Raises AddressInUse where anything else is, or OSError."""
    found = socket_at(path)
    if found is None:
        if os.path.lexists(path):
            raise AddressInUse(
                f"{path} is already in use: it is not a socket",
                next="move that file away, or give the app another path",
            )
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as trial:
        try:
            with short_path(path) as short:
                trial.connect(short)
        except ConnectionRefusedError:
            remove(path, found)
            return
        except (BlockingIOError, PermissionError):
            pass  # its queue is full; or we may not ask, nor take its place
        except OSError:
            return
    raise AddressInUse(f"{path} is already in use", next="stop the program that listens there")


def remove(path: str, ours: Optional[FileId]) -> None:
    """Unless something else lies there by now. Raises OSError where that may not be."""
    if ours and socket_at(path) == ours:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def file_of(sock: socket.socket, path: str) -> Optional[FileId]:
    """Which file at `path` is the one of a socket that an earlier supervisor bound; None where the kernel names another."""
    found = socket_at(path)
    try:
        return found if found and sock_diag.file_of_unix(sock) == found[1] & 0xFFFFFFFF else None
    except OSError:
        return None
