"""Which user a connection over loopback comes from, as the kernel says."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Optional

from percore.supervisor.sockets.sock_diag import find_end


def uid_of_client(environ: Mapping[str, Any]) -> Optional[int]:
    """None for another machine, and where the kernel does not tell."""
    try:
        server = environ["SERVER_NAME"], int(environ["SERVER_PORT"])
        client = environ["REMOTE_ADDR"], int(environ["REMOTE_PORT"])
        if not ipaddress.ip_address(client[0]).is_loopback:
            return None
        end = find_end(client, server)
    except (KeyError, TypeError, ValueError, OSError):
        return None
    return end.uid if end else None
