"""What a worker of another user needs of us: our home is private, and often lies in a home that is private as well.

So it finds sockets, and what it loads, in a directory of /var/lib that everybody may pass, and only we may change. Each user has
sockets of his own, which the kernel opens to nobody else: what one user does there delays no other.
"""

from __future__ import annotations

import contextlib
import os
import zlib

from percore.common.typing import NamedTuple
from percore.errors import PercoreError
from percore.supervisor.home import Home, Preload, place_preload

_FOLDER = "/var/lib/percore-users"


class Outside(NamedTuple):
    worker_socket: str
    notify_address: str
    preload: Preload


def make_outside(home: Home, uid: int) -> Outside:
    """For workers of this user. Raises PercoreError where nothing can be written there."""
    folder = _folder_of(home)
    try:
        for path in (_FOLDER, folder):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o711)
        return Outside(f"{folder}/worker-{uid}.sock", f"{folder}/notify-{uid}.sock", place_preload(folder))
    except OSError as error:
        raise PercoreError(
            f"{folder}, where workers of other users reach the supervisor, cannot be made: {error.strerror}",
            next="make it writable, or set share_port: false and no wait_ready",
        ) from None


def remove_outside(home: Home) -> None:
    for place, _, files in os.walk(_folder_of(home), topdown=False):
        for name in files:
            os.unlink(os.path.join(place, name))
        os.rmdir(place)
    with contextlib.suppress(OSError):
        os.rmdir(_FOLDER)  # unless another supervisor uses it


def former_addresses(home: Home) -> tuple[str, ...]:
    """Where workers that an earlier version started reach us: all users at one socket, or by an abstract name."""
    folder = _folder_of(home)
    name = zlib.crc32(os.fsencode(os.path.join(home.run, "notify.sock")))
    return f"{folder}/worker.sock", f"{folder}/notify.sock", f"@percore-{os.geteuid()}-{name:08x}"


def _folder_of(home: Home) -> str:
    return f"{_FOLDER}/{zlib.crc32(os.fsencode(home.path)):08x}"
