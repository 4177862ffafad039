"""What went wrong with an SSH connection, in the operator's words."""

from __future__ import annotations

import re
import shlex

from percore.deploy.connection.ssh_config import Route
from percore.deploy.connection.ssh_keys import NOT_KNOWN
from percore.errors import PercoreError, PreflightError, UnreachableError


def explain(host: str, route: Route, error: Exception) -> PercoreError:
    from paramiko import AuthenticationException, BadHostKeyException

    place = f"{route.host}:{route.port}"
    files = route.known_hosts[0] if route.known_hosts else "~/.ssh/known_hosts"
    name = route.known_name
    if isinstance(error, BadHostKeyException):
        return PreflightError(
            f"the host key of {place} is not the known one ({error.key.get_name()}); this may be an attack",
            where=host,
            next=f"if the host was really set up anew, remove its old line: ssh-keygen -f {files} -R {shlex.quote(name)}",
        )
    said = getattr(error, "proxy_said", "").splitlines()
    text = said[-1] if said else str(getattr(error, "text", error)) or type(error).__name__
    if "is revoked" in text:
        return PreflightError(f"the host key of {place} is revoked in known_hosts; this may be an attack", where=host)
    if text.startswith(NOT_KNOWN):
        port = "" if route.port == 22 else f"-p {route.port} "
        return PreflightError(
            f"the host key of {place} is not known{text[len(NOT_KNOWN) :]}",
            where=host,
            next=f"compare and add it: ssh-keyscan {port}{shlex.quote(route.host)} >> {files}",
        )
    if isinstance(error, AuthenticationException):
        return _explain_refusal(host, place, route, error)
    if "banner" in text or "No existing session" in text:
        text = f"no SSH server answered within {route.seconds} s"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else text
    reason = re.sub(r"^\[Errno [^]]*\] ", "", reason)
    return UnreachableError(
        f"{place} does not answer: {reason}", where=host, next="check that it is up, then try again"
    )


def _explain_refusal(host: str, place: str, route: Route, error: Exception) -> PercoreError:
    strategy = getattr(getattr(error, "result", None), "strategy", None)
    tried = len(getattr(error, "result", ()))
    locked = getattr(strategy, "locked", [])
    what = f"{place} does not let us log in as {route.user}: "
    if locked:
        return UnreachableError(
            f"{what}the key {locked[0]} has a passphrase", where=host, next=f"ssh-add {locked[0]}, then try again"
        )
    reason = f"{tried} keys or passwords were tried" if tried else "there is no key to try"
    return UnreachableError(f"{what}{reason}", where=host, next="check ansible_user and the key")
