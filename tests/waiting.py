"""What every test of real programs needs: to wait for a condition, and a port of its own."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable
from typing import Any


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 20.0, interval: float = 0.02) -> Any:
    """The first true value of `condition`; fails with `what` when the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(interval)
    raise AssertionError(f"waited {seconds} s for {what}")


def free_port() -> int:
    """Below the range from which the kernel takes ports for clients: the load must not use up the server's own."""
    while True:
        port = random.randrange(15000, 30000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("0.0.0.0", port))
            return port
