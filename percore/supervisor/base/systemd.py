"""Notifications to systemd, without its library (sd_notify(3)); nothing happens outside systemd."""

from __future__ import annotations

import array
import os
import socket
import sys

from percore.supervisor.base.loop import Loop


def is_there() -> bool:
    return bool(os.environ.get("NOTIFY_SOCKET"))


def notify(state: str, descriptors: tuple[int, ...] = ()) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            sock.sendmsg([state.encode()], rights, 0, address)
        except OSError as error:
            sys.stderr.write(f"systemd could not be notified of {state.splitlines()[0]}: {error.strerror}\n")


def feed_watchdog(loop: Loop) -> None:
    """From the loop, so that a blocked loop is detected (WatchdogSec= in the unit)."""
    if os.environ.get("WATCHDOG_PID") != str(os.getpid()):
        return
    seconds = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000

    def feed() -> None:
        notify("WATCHDOG=1")
        loop.later(seconds / 2, feed)

    if seconds > 0:
        feed()
