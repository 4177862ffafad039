"""Static sites: entries of `static` in a process file, and `percore serve`, as apps whose script is "serve"."""

from __future__ import annotations

import os
from collections.abc import Mapping

from percore.common.typing import Any
from percore.supervisor.config.kinds import CLUSTER

SCRIPT = "serve"
_DEFAULT_PORT = 8080
# A connection that is kept open may be idle for five seconds before the server closes it.
_KILL_TIMEOUT = 8.0
_KEYS = {"path": "PATH", "port": "PORT", "host": "HOST", "spa": "SPA", "ftp": "FTP", "directory": "DIRECTORY",
         "homepage": "HOMEPAGE"}  # fmt: skip
KNOWN_KEYS = (*_KEYS, "basic_auth", "monitor", "name")


def site_app(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The app, as a process file would write it."""
    port = entry.get("port", _DEFAULT_PORT)
    env = {f"PM2_SERVE_{variable}": entry[key] for key, variable in _KEYS.items() if entry.get(key) is not None}
    credentials = entry.get("basic_auth")
    if isinstance(credentials, Mapping):
        env["PM2_SERVE_BASIC_AUTH"] = True
        env["PM2_SERVE_BASIC_AUTH_USERNAME"] = credentials.get("username", "")
        env["PM2_SERVE_BASIC_AUTH_PASSWORD"] = credentials.get("password", "")
    return {"name": entry.get("name") or f"static-page-server-{port}", "script": SCRIPT,
            "env": {"PM2_SERVE_PORT": port, **env}}  # fmt: skip


def is_site(fields: Mapping[str, Any]) -> bool:
    """True when the script is this server, not a file of that name."""
    return fields["script"] == SCRIPT and not os.path.isfile(os.path.join(fields["cwd"], SCRIPT))


def settle_site(fields: dict[str, Any]) -> None:
    fields["interpreter"] = "none"
    fields.setdefault("mode", CLUSTER)
    fields.setdefault("kill_timeout", _KILL_TIMEOUT)
