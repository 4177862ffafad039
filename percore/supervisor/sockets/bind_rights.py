"""With whose rights an address is bound: a worker gets no socket that its user could not have made.

What the operator named (`port`, `listen`, PORT in the environment) is ours to open. For the rest the kernel is asked in the name
of the worker's user, who thus cannot reach ports below ip_unprivileged_port_start, nor paths that are not his. We stay the
owner of TCP sockets all the same: no other process of that user may join their group.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

from percore.common.typing import NamedTuple, Optional
from percore.errors import PercoreError
from percore.supervisor.base.user import Identity, identity_of
from percore.supervisor.base.user_files import AnyUser, find
from percore.supervisor.config.address import Address, parse_address
from percore.supervisor.config.app import AppConfig

_FIRST_FREE_PORT = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
_UNPRIVILEGED = Identity(65534, 65534, (), {})  # in the place of a user that is gone


class Rights(NamedTuple):
    """`user` is the app's (None: our own); what the operator `named` is done by us."""

    user: Optional[Identity] = None
    is_named: bool = True

    @property
    def actor(self) -> Optional[AnyUser]:
        """Who binds a port; None: we do."""
        return None if self.is_named else self.user

    def actor_at(self, path: str) -> Optional[AnyUser]:
        """Who makes, or removes, a socket at this path. Raises OSError where neither may."""
        if self.actor:
            return self.actor
        with contextlib.closing(find(path, self.user)) as found:
            return found.user


OURS = Rights()


def rights_of(address: Address, config: AppConfig, base_env: Mapping[str, str]) -> Rights:
    """Of a worker that asks for this address."""
    try:
        user = identity_of(config.user, config.group)
    except PercoreError:
        user = _UNPRIVILEGED
    return Rights(user, is_named=user is None or user.uid == 0 or is_named(address, config, base_env))


def is_named(address: Address, config: AppConfig, base_env: Mapping[str, str]) -> bool:
    if address in map(parse_address, config.listen):
        return True
    ports = {str(config.port), config.env.get("PORT"), base_env.get("PORT")}
    return address.family != socket.AF_UNIX and str(address.port) in ports


def needs_rights(address: Address) -> bool:
    """True where not every user may bind it."""
    if address.family == socket.AF_UNIX:
        return True
    try:
        with open(_FIRST_FREE_PORT) as file:
            return address.port < int(file.read())
    except (OSError, ValueError):
        return address.port < 1024
