"""The sockets of an earlier supervisor, out of its descriptor store or out of its living workers."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Mapping, Sequence

from percore.common.typing import NamedTuple
from percore.supervisor.base.logger import log
from percore.supervisor.config.address import Address
from percore.supervisor.process.process import has_token
from percore.supervisor.sockets.bind_rights import rights_of
from percore.supervisor.sockets.listener import Listener
from percore.supervisor.sockets.sharing import Mode
from percore.supervisor.state import state_file
from percore.supervisor.state.fd_store import open_sockets, read_entry
from percore.supervisor.state.rescue import is_channel, is_listener_of, rescue_listening
from percore.supervisor.state.saved import Saved, SavedApp


class Recovered(NamedTuple):
    listeners: Mapping[str, Mapping[Address, Listener]]  # by app
    channels: Mapping[str, socket.socket]  # by token

    def listeners_of(self, saved: SavedApp, mode: Mode, *, is_same_boot: bool) -> dict[Address, Listener]:
        """Those of this app; what is missing is taken from its living workers."""
        found = dict(self.listeners.get(saved.config.name, {}))
        if is_same_boot:
            found.update(_rescue(saved, found, mode))
        for address, listener in found.items():
            if address.family == socket.AF_UNIX:
                listener.rights = rights_of(address, saved.config, saved.base_env)
        return found


def is_of_this_boot(saved: Saved) -> bool:
    """In a container a unit with ProtectKernelTunables sees another boot id than one without; a living worker knows better."""
    return state_file.is_this_boot(saved.boot, saved.init) or any(
        has_token(worker.pid, worker.token) for worker in saved.workers
    )


def _rescue(saved: SavedApp, known: Mapping[Address, Listener], mode: Mode) -> dict[Address, Listener]:
    """Listeners that the store did not keep, put together again from what living workers hold."""
    holders: dict[Address, list[tuple[int, int, int]]] = {}
    for place in saved.places:
        for worker in place.workers:
            index = Listener.index_of(mode, place.number, worker.generation)
            for address in worker.addresses:
                holders.setdefault(address, []).append((worker.pid, worker.start_time, index))
    rescued: dict[Address, Listener] = {}
    for address, workers in holders.items():
        if address not in known and (found := rescue_listening(address, workers)):
            with contextlib.suppress(OSError):
                rescued[address] = Listener.rescued(address, found, len(saved.slots), mode)
    return rescued


def open_entries(entries: Mapping[str, Sequence[int]], *, mode: Mode) -> Recovered:
    """What is not what its name says is closed, with a line in the log."""
    listeners: dict[str, dict[Address, Listener]] = {}
    channels: dict[str, socket.socket] = {}
    for name, descriptors in entries.items():
        opened = open_sockets(descriptors)
        try:
            _open_entry(name, opened, listeners, channels, mode)
        except ValueError as error:
            log(f"{name} in the descriptor store is invalid and is ignored: {error}")
            for sock in opened:
                sock.close()
    return Recovered(listeners, channels)


def _open_entry(name: str, opened: Sequence[socket.socket], listeners: dict[str, dict[Address, Listener]],
                channels: dict[str, socket.socket], mode: Mode) -> None:  # fmt: skip
    """Raises ValueError."""
    entry = read_entry(name)
    if entry.address is None:
        if len(opened) != 1 or not is_channel(opened[0]):
            raise ValueError("it is not the channel of a worker")
        channels[entry.owner] = opened[0]
        return
    if not opened or not all(is_listener_of(entry.address, sock) for sock in opened):
        raise ValueError("its sockets are not bound there")
    if mode is Mode.STEERED and entry.address.can_steer and len(entry.order) != len(opened):
        raise ValueError("it holds another number of sockets than it says")
    listeners.setdefault(entry.owner, {})[entry.address] = Listener.recovered(entry.address, opened, entry.order, mode)


def belongs_to(name: str, apps: Collection[str], tokens: Collection[str]) -> bool:
    """Whether what has this name in the store belongs to one of these apps or workers."""
    try:
        entry = read_entry(name)
    except ValueError:
        return True  # it belongs to none; opening it logs that
    return entry.owner in (apps if entry.address else tokens)
