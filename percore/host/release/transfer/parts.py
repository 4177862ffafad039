"""Parts of a release on their way here: read to their last byte, checked, unpacked where there is room."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import BinaryIO

from percore.errors import PreflightError, RolloutError
from percore.host.facts import free_bytes
from percore.host.paths import remove_tree

SPARE_BYTES = 64 * 1024 * 1024
"""Left free on the disk after staging, for logs and for all other programs."""


class PartReader:
    """Reads exactly `size` bytes of a stream and hashes them on the way."""

    def __init__(self, source: BinaryIO, size: int) -> None:
        self.source = source
        self.left = size
        self.digest = hashlib.sha256()

    def read(self, wanted: int = -1) -> bytes:
        if wanted < 0 or wanted > self.left:
            wanted = self.left
        piece = self.source.read(wanted) if wanted else b""
        if len(piece) < wanted:
            raise RolloutError("the connection ended in the middle of a file")
        self.left -= len(piece)
        self.digest.update(piece)
        return piece

    def drain(self) -> None:
        while self.left:
            self.read(min(self.left, 1 << 20))

    def check(self, sha256: str) -> None:
        self.drain()
        if self.digest.hexdigest() != sha256:
            raise RolloutError("what arrived is not what was sent: the checksum differs", next="deploy again")


def check_room(path: str, needed_bytes: int) -> None:
    free = free_bytes(path)
    if free < needed_bytes + SPARE_BYTES:
        raise PreflightError(
            f"not enough disk space below {path}: {_mb(needed_bytes)} needed, {_mb(SPARE_BYTES)} to spare, {_mb(free)} free",
            next="make room there, or lower keep_releases, then deploy again",
        )


def unpack(archive: PartReader, sha256: str, directory: str, *, needed_bytes: int) -> None:
    """Unpack a checked .tar.gz into a new `directory`; on any failure nothing of it stays."""
    import tarfile  # most runs unpack nothing

    from percore.host.release.transfer.unpack import Refused, extract

    remove_tree(directory)
    os.makedirs(directory)
    try:
        extract(archive, directory, announced_bytes=needed_bytes)  # type: ignore[arg-type]
        archive.check(sha256)
    except Refused as error:
        remove_tree(directory)
        raise RolloutError(
            f"the archive is refused: {error}",
            next="leave that out of the app's directory (artifact_exclude), then deploy again",
        ) from None
    except (OSError, tarfile.TarError) as error:
        remove_tree(directory)
        place = os.path.dirname(directory)
        reason = error.strerror if isinstance(error, OSError) else error
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (PreflightError if full else RolloutError)(
            f"could not unpack below {place}: {reason}; {_mb(needed_bytes)} needed, {_mb(free_bytes(place))} free; "
            "what was unpacked is removed again",
            next="make room there, then deploy again",
        ) from None
    except BaseException:
        remove_tree(directory)
        raise


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
