"""What went wrong with an SSH connection, in the operator's words."""

from __future__ import annotations

import re
import shlex

from percore.deploy.connection.limits import our_limit
from percore.deploy.connection.openssh.config import Route
from percore.deploy.connection.openssh.host_keys import NOT_KNOWN, REVOKED
from percore.deploy.connection.openssh.our_keys import MORE
from percore.errors import PercoreError, PreflightError, UnreachableError

MANY = 5
"""Most servers end a connection after six tries."""

CROWDED = "kex_exchange_identification"
"""What OpenSSH's client, as a proxy, says of a server that hung up before its first word."""


def explain(host: str, route: Route, error: Exception) -> PercoreError:
    from paramiko import AuthenticationException, BadHostKeyException

    if (limit := our_limit(error)) is not None:
        return PreflightError(limit[0], where=host, next=limit[1])
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
    if text.startswith(REVOKED):
        what = f"the host key of {place} is revoked{text[len(REVOKED) :]}; this may be an attack"
        return PreflightError(what, where=host, next="ask who revoked it; a new key is not trusted by itself")
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
        text = f"no SSH server answered within {route.banner_seconds} s, or it ended the connection (MaxStartups)"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else text
    reason = re.sub(r"^\[Errno [^]]*\] ", "", reason)
    return UnreachableError(
        f"{place} does not answer: {reason}", where=host, next="check that it is up, then try again"
    )


def _explain_refusal(host: str, place: str, route: Route, error: Exception) -> PercoreError:
    files = getattr(getattr(getattr(error, "result", None), "strategy", None), "files", None)
    results = getattr(error, "result", ())
    locked, unusable = getattr(files, "locked", []), getattr(files, "unusable", [])
    what = f"{place} does not let us log in as {route.user}: "
    if locked:
        return UnreachableError(
            f"{what}the key {locked[0]} has a passphrase", where=host, next=f"ssh-add {locked[0]}, then try again"
        )
    tried = len(results)
    reason = f"{tried} keys or passwords were tried" if tried else "there is no key to try"
    steps = [str(each.result) for each in results if str(each.result).startswith(MORE)]
    reason = "; ".join([steps[0] if steps else reason, *unusable[:3]])
    advice = "check ansible_user and the key"
    if tried >= MANY:
        advice += "; a host ends after some tries: name the key, and set IdentitiesOnly yes in ~/.ssh/config"
    return UnreachableError(f"{what}{reason}", where=host, next=advice)
