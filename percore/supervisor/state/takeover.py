"""How a service manager's supervisor takes over from one that was started by hand: no worker is touched.

The running one is asked to leave. It answers with the two ends of its store, in which the listening sockets are, and ends.
"""

from __future__ import annotations

import contextlib
import socket

from percore.common import control
from percore.common.typing import Optional
from percore.supervisor.base.home import Home, connect
from percore.supervisor.state.fd_store import Ends, ends_among

_LONGEST_ANSWER = 1 << 20


def take_over(home: Home) -> Optional[Ends]:
    """The ends of the store of the supervisor that leaves; None when there is none, or it stays."""
    taken: list[int] = []
    with contextlib.suppress(OSError, ValueError), connect(home.control_socket) as sock:
        sock.sendall(control.request("leave"))
        text = b""
        while not text.endswith(b"\n"):
            part, descriptors, _, _ = socket.recv_fds(sock, 65536, 2)
            taken += descriptors
            text += part
            if not part or len(text) > _LONGEST_ANSWER:
                break
    return ends_among(taken)
