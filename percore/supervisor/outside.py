"""What a worker of another user needs of us: our home is private, and often lies in a home that is private as well.

So it finds a socket, and what it loads, in a folder of /var/lib that everybody may pass. Who comes in is asked for the token
that only the worker was given, and for its user.
"""

from __future__ import annotations

import contextlib
import os
import zlib

from percore.errors import PercoreError
from percore.hints import NamedTuple
from percore.supervisor.home import Home, Preload, place_preload

_FOLDER = "/var/lib/percore-users"


class Outside(NamedTuple):
    worker_socket: str
    notify_address: str
    preload: Preload


def make_outside(home: Home) -> Outside:
    """Raises PercoreError where nothing can be written there."""
    folder = _folder_of(home)
    try:
        for path in (_FOLDER, folder):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o711)
        return Outside(f"{folder}/worker.sock", f"{folder}/notify.sock", place_preload(folder))
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


def _folder_of(home: Home) -> str:
    return f"{_FOLDER}/{zlib.crc32(os.fsencode(home.path)):08x}"
