"""The hidden directories in which releases are unpacked: a release with its own name is whole."""

from __future__ import annotations

import os

from percore.common.names import require_release_id
from percore.errors import RolloutError
from percore.host.paths import remove_tree
from percore.host.release.transfer.artifacts import Archives
from percore.host.release.transfer.parts import PartReader, check_room, unpack


class StagingArea:
    def __init__(self, directory: str, archives: Archives) -> None:
        self._directory = directory
        self._archives = archives

    def path(self, release: str) -> str:
        return os.path.join(self._directory, f".staging-{require_release_id(release)}")

    def fill(self, release: str, sha256: str, *, unpacked_bytes: int) -> None:
        """Unpack the archive into the hidden `path`; `Releases.publish` gives it its name.

        An archive that turns out damaged is thrown away, so that it is sent again.
        """
        check_room(self._directory, unpacked_bytes)
        with self._archives.open(sha256) as archive:
            reader = PartReader(archive, self._archives.bytes_here(sha256))
            try:
                unpack(reader, sha256, self.path(release), needed_bytes=unpacked_bytes)
            except RolloutError:
                self._archives.remove(sha256)
                raise

    def clean(self) -> None:
        """Remove what an interrupted staging left."""
        if os.path.isdir(self._directory):
            for name in os.listdir(self._directory):
                if name.startswith(".staging-"):
                    remove_tree(os.path.join(self._directory, name))
