"""The version of this command beside that of the running supervisor."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping

from percore import __version__
from percore.common.typing import Any
from percore.errors import PercoreError
from percore.supervisor.base.home import Home
from percore.supervisor.client import is_running, request
from percore.supervisor.commands.output import warn


def difference(running: Mapping[str, Any]) -> str:
    """What is different and what to type, where the running supervisor is of another version; otherwise empty."""
    version = running["version"]
    if version == __version__:
        return ""
    advice = (
        f"pip install percore=={version}, or take the supervisor back with: percore update"
        if _numbers(version) > _numbers(__version__)
        else "percore update"
    )
    return f"the supervisor runs version {version}, this command is version {__version__} -> {advice}"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def warn_of_difference() -> None:
    """Starts nothing, and reports no other trouble: it stands beside an answer that was given already."""
    home = Home.of_user()
    with contextlib.suppress(PercoreError, OSError):
        if os.stat(home.path).st_uid == os.geteuid() and is_running(home):
            *_, running = request(home, "ping")
            if text := difference(running):
                warn(text)
