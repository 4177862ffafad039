"""Earlier versions of percore, whole: `COMMIT.tar.xz` is `git archive COMMIT percore roles templates tasks.py`.

Nothing has to be fetched then, and a shallow clone will do.
"""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from tests import archives

VERSIONS = sorted(Path(__file__).parent.glob("*.tar.xz"))
_SHIM = ["-shared", "-fPIC", "-nostdlib", "-O2", "-fno-builtin", "-fno-stack-protector", "-fvisibility=hidden"]


def unpack(archive: Path, directory: Path) -> None:
    """The checkout of then, its C library compiled."""
    archives.unpack(archive, directory)
    source = next(directory.rglob("bindshim.c"))
    shim = source.parent / f"bindshim-{platform.machine()}.so"
    subprocess.run(["cc", *_SHIM, "-o", str(shim), str(source)], check=True)
