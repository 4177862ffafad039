"""docs/ as a site, by MkDocs: `./run docs`, and without a directory for `./run check`, which only wants it judged.

A link to a page, a file or a heading that does not exist fails, and so does a page that the menu (mkdocs.yml) does not have.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What the theme would say about versions of MkDocs to come.
_QUIET = {"NO_MKDOCS_2_WARNING": "1"}


def build(directory: str | Path) -> int:
    return mkdocs("build", "--strict", "--site-dir", str(Path(directory).absolute()))


def serve(address: str) -> int:
    return mkdocs("serve", "--strict", "--dev-addr", address)


def mkdocs(*words: str) -> int:
    """Its exit code."""
    return subprocess.run([sys.executable, "-m", "mkdocs", *words], cwd=ROOT, env={**os.environ, **_QUIET}).returncode


def main(words: Sequence[str]) -> int:
    if words:
        return build(words[0])
    with tempfile.TemporaryDirectory(prefix="percore-site-") as directory:
        return build(directory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
