"""Who may see what: a token as a Bearer header or by a login form; without one, the user of the supervisor on loopback.

A page of another site gets nothing: without a token the Host must be this machine and no name that could be made to lead
here (DNS rebinding), the cookie is SameSite=Strict, no answer allows another origin, and what changes something needs a header
that no form can send.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import socket
import stat
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from percore.errors import PercoreError, UsageError
from percore.web.http import Right

SESSION_SECONDS = 12 * 3600
PAGE_TOKEN_HEADER = "x-percore-token"
_LONGEST_FILE = 64 * 1024
_SHORTEST_TOKEN = 20
_RIGHTS = {"read": Right.READING, "actions": Right.ACTIONS}


class Token(NamedTuple):
    secret: str
    right: Right


def read_tokens(path: str) -> list[Token]:
    """One a line: the token, and `actions` behind it where it may restart, reload and scale. Raises PercoreError."""
    try:
        with open(path, encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            lines = file.read(_LONGEST_FILE).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise PercoreError(f"the token cannot be read: {reason}", where=path) from None
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o077:
        raise PercoreError("others can read or change the token", where=path, next=f"chmod 600 {path}")
    tokens = [_token(line, path) for line in lines if line.strip() and not line.startswith("#")]
    if not tokens:
        raise PercoreError("there is no token in it", where=path, next=f"openssl rand -hex 24 > {path}")
    return tokens


def _token(line: str, path: str) -> Token:
    secret, _, right = line.strip().partition(" ")
    if len(secret) < _SHORTEST_TOKEN or not secret.isascii():
        what = f"a token needs at least {_SHORTEST_TOKEN} characters of ASCII"
        raise UsageError(what, where=path, next=f"openssl rand -hex 24 > {path}")
    if (right.strip() or "read") not in _RIGHTS:
        raise UsageError("behind a token may stand 'read' or 'actions'", where=path)
    return Token(secret, _RIGHTS[right.strip() or "read"])


class Access:
    """`names` are those by which this machine is asked, besides its addresses."""

    def __init__(
        self, tokens: Sequence[Token], *, port: int, names: Sequence[str] = (), allows_actions: bool = False
    ) -> None:
        """`allows_actions`: the supervisor's user may act without a token."""
        self._tokens = tokens
        self._own_right = Right.ACTIONS if allows_actions else Right.READING
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}
        self.cookie = f"percore-{port}"  # cookies are not kept apart by port
        self.page_token = secrets.token_urlsafe(24)  # what a page of ours sends with what changes something

    @property
    def has_tokens(self) -> bool:
        return bool(self._tokens)

    def right_of(self, headers: Mapping[str, str], peer_uid: Optional[int]) -> Right:
        """`peer_uid`: of the process at the other end, where that is known."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._right_of_token(given.strip())
        if session := _cookie(headers.get("cookie", ""), self.cookie):
            right = self._right_of_session(session)
            if right is not Right.NOTHING:
                return right
        if self._tokens or not self._is_this_machine(headers.get("host", "")):
            return Right.NOTHING
        return self._own_right if peer_uid in (0, os.geteuid()) else Right.FIGURES

    def is_refused_by_name(self, headers: Mapping[str, str]) -> bool:
        return not self._tokens and not self._is_this_machine(headers.get("host", ""))

    def may_change(self, headers: Mapping[str, str]) -> bool:
        """Not sent by a form or a page of another site."""
        if headers.get("authorization", "").lower().startswith("bearer "):
            return True
        return hmac.compare_digest(headers.get(PAGE_TOKEN_HEADER, "").encode(), self.page_token.encode())

    def log_in(self, given: str) -> Optional[str]:
        """The cookie of a new session; None for a wrong token."""
        token = self._find(given)
        if token is None:
            return None
        until = f"{int(time.time()) + SESSION_SECONDS}"
        value = f"{until}.{_signature(token, until)}"
        return f"{self.cookie}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={SESSION_SECONDS}"

    def _right_of_token(self, given: str) -> Right:
        token = self._find(given)
        return token.right if token else Right.NOTHING

    def _find(self, given: str) -> Optional[Token]:
        same = [token for token in self._tokens if hmac.compare_digest(token.secret.encode(), given.encode())]
        return same[0] if same else None

    def _right_of_session(self, session: str) -> Right:
        until, _, signature = session.partition(".")
        if not until.isascii() or not until.isdigit() or len(until) > 12 or int(until) < time.time():
            return Right.NOTHING
        for token in self._tokens:
            if hmac.compare_digest(_signature(token, until).encode(), signature.encode()):
                return token.right
        return Right.NOTHING

    def _is_this_machine(self, host: str) -> bool:
        name = host.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True


def _signature(token: Token, until: str) -> str:
    return hmac.new(token.secret.encode(), f"percore session {until}".encode(), hashlib.sha256).hexdigest()


def _cookie(header: str, wanted: str) -> str:
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == wanted:
            return value
    return ""
