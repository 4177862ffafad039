"""What of PM2 is left on the host: a unit that starts it at boot, and a section `deploy` that its daemon does not know."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator

from percore.common.bounds import read_file
from percore.supervisor.config.app_bounds import PROCESS_FILES

_UNITS = "/etc/systemd/system/pm2*.service"
_HOME = re.compile(r'^Environment="?PM2_HOME=([^"\n]*)', re.MULTILINE)
_DEPLOY = re.compile(r"""(?:^|[,{\s])["']?deploy["']?\s*:\s*\{""")


def startup_notes(home: str, pattern: str = _UNITS) -> Iterator[str]:
    for path in sorted(glob.glob(pattern)):
        if os.path.abspath((_HOME.search(text_of(path)) or ["", ""])[1] or "/") == home:
            unit = os.path.basename(path)
            yield (
                f"{unit} starts PM2 with its saved list at the next boot -> sudo systemctl disable --now {unit} && "
                "sudo percore startup"
            )


def deploy_notes(directories: Iterable[object]) -> Iterator[str]:
    for directory in sorted({str(each) for each in directories}):
        for path in (os.path.join(directory, name) for name in PROCESS_FILES):
            if _DEPLOY.search(text_of(path)):
                yield f"{path} has a section 'deploy', which is not taken over -> percore init --env production"


def text_of(path: str) -> str:
    try:
        return read_file(path, most=1 << 20).decode(errors="replace")
    except OSError:
        return ""
