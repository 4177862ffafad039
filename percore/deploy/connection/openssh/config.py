"""How OpenSSH's own client would reach a host: `ssh -G` reads the user's configuration, so Match, Include, ProxyJump and all
the rest mean here what they mean in a shell. Nothing is connected here.

Without an OpenSSH client (`ssh` not in PATH), `~/.ssh/config` is read by paramiko, which knows less of it.
"""

from __future__ import annotations

import getpass
import itertools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from percore.common.bounds import read_file
from percore.common.names import is_ssh_host, is_ssh_user
from percore.common.passwords import for_programs
from percore.deploy.connection.openssh.percent_signs import expand, expand_all, fill, percent_signs, quoted, split_paths
from percore.deploy.connection.openssh.same_for_all import shared_options
from percore.errors import PercoreError, PreflightError, UsageError

SECONDS = 10
"""How long a connection may take, where the configuration sets nothing."""

SILENCE_SECONDS = 15
"""So long without a word from the agent, which says every few seconds that it lives, and the link is cut; ServerAliveInterval and
ServerAliveCountMax say another number, though none below the least."""

LEAST_SILENCE_SECONDS = 6

Options = Mapping[str, Sequence[str]]
"""`ssh -G`'s answer: the values of each option, its name in lower case."""


@dataclass(frozen=True)
class Wish:
    """What an inventory says about reaching one host, on top of the user's SSH configuration."""

    host: str
    port: int | None = None
    user: str | None = None
    key_file: str | None = None
    arguments: tuple[str, ...] = ()  # words for `ssh`, as in ansible_ssh_common_args


@dataclass(frozen=True)
class Route:
    """Everything needed to open one connection. `jumps` are hosts on the way, as ProxyJump names them."""

    host: str
    port: int
    user: str
    key_files: tuple[str, ...]  # private keys, or public ones whose private part the agent has
    certificates: tuple[str, ...]
    agent: str | None  # the agent's socket; None: no agent is asked
    only_named_keys: bool  # of the agent's keys, only those that `key_files` name
    known_hosts: tuple[str, ...]  # new keys go into the first
    revoked_keys: str  # a file; empty: there is none
    known_as: str  # the name the host's key is known under
    accept_new: bool
    hash_names: bool
    proxy_command: str | None
    jumps: tuple[str, ...]
    seconds: int
    silence_seconds: int

    @property
    def banner_seconds(self) -> int:
        """A host that took the connection and is busy may take longer for its first word."""
        return 3 * self.seconds

    @property
    def known_name(self) -> str:
        """What the host is called in known_hosts."""
        return self.known_as or (self.host if self.port == 22 else f"[{self.host}]:{self.port}")

    @property
    def bare_name(self) -> str:
        """What it may be called there besides, and the name that a certificate is for."""
        return self.known_as or self.host


def find_route(wish: Wish) -> Route:
    """Raises UsageError for what ssh does not understand, PreflightError for a named key or known_hosts file that is missing."""
    _refuse_unsafe(wish.host, wish.user)
    options = (shared_options(wish, _ask_ssh) or _ask_ssh(wish)) if shutil.which("ssh") else _read_config(wish)
    route = _make_route(wish, options)
    _refuse_unsafe(route.host, route.user)
    signs = percent_signs(wish.host, route.host, route.port, route.user, route.known_as)
    if wish.key_file and expand(wish.key_file, signs) not in route.key_files:
        raise PreflightError(f"the key {wish.key_file} does not exist", next="see ansible_ssh_private_key_file")
    for path in _written(wish.arguments, "userknownhostsfile"):
        if path != "none" and not os.path.exists(os.path.expanduser(path)) and not route.accept_new:
            raise PreflightError("the known_hosts file does not exist", where=path, next="see UserKnownHostsFile")
    return route


def _refuse_unsafe(host: str, user: str | None) -> None:
    """Host and user become words of ProxyCommand's shell. OpenSSH 9.6 refuses the same; older ones, and paramiko, do not."""
    if not is_ssh_host(host):
        raise UsageError(f"{ascii(host)[:80]} is not a host that ssh would connect to", next="see ansible_host")
    if user and not is_ssh_user(user):
        raise UsageError(f"{ascii(user)[:80]} is not a user that ssh would log in as", next="see ansible_user")


def jump_wish(jump: str, wish: Wish) -> Wish:
    """A host on the way, `[user@]host[:port]`: from the same configuration file, and with the same known hosts."""
    user, _, place = jump.removeprefix("ssh://").rpartition("@")
    found = re.fullmatch(r"(\[[^]]+\]|[^:]+)(?::([0-9]{1,5}))?", place)
    if not found:
        raise UsageError(f"ProxyJump '{jump}' is not [user@]host[:port]")
    words = _configuration_file(wish.arguments)
    for name in ("UserKnownHostsFile", "StrictHostKeyChecking"):
        words += [f"-o{name}={value}" for value in _written(wish.arguments, name.lower())[:1]]
    return Wish(found[1].strip("[]"), int(found[2]) if found[2] else None, user or None, None, tuple(words))


def check_host_keys(arguments: Sequence[str]) -> None:
    """Raises UsageError when the words would turn the check of host keys off: that is never done silently."""
    for value in _written(arguments, "stricthostkeychecking"):
        if value not in ("yes", "ask", "accept-new"):
            raise UsageError(
                "host keys are always checked; StrictHostKeyChecking cannot be turned off",
                next="put the host's key into known_hosts, or set StrictHostKeyChecking=accept-new",
            )


def _ask_ssh(wish: Wish) -> Options:
    words = ["ssh", "-G", *wish.arguments]
    words += ["-p", str(wish.port)] if wish.port else []
    words += ["-l", wish.user] if wish.user else []
    words += ["-i", wish.key_file] if wish.key_file else []
    try:
        done = subprocess.run(
            [*words, "--", wish.host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=for_programs(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PercoreError(f"'ssh -G' does not answer: {error}") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.strip().splitlines() if line.strip()]
        what = said[0].strip().rstrip(".") if said else f"exit code {done.returncode}"
        raise UsageError(
            f"ssh does not understand how to reach it: {what}", next=f"try: {shlex.join(words)} {wish.host}"
        )
    options: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        options.setdefault(name, []).append(value)
    return options


def _read_config(wish: Wish) -> Options:
    from paramiko import SSHConfig, SSHException

    path = os.path.expanduser("~/.ssh/config")
    try:
        config = SSHConfig.from_text(read_file(path).decode()) if os.path.exists(path) else SSHConfig()
        known = config.lookup(wish.host)
    except (OSError, ValueError, SSHException) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"it cannot be read: {reason}", where=path, next="install an OpenSSH client, or fix it"
        ) from None
    found = {name: value if isinstance(value, list) else [value] for name, value in known.items()}
    found.update({name: [value] for name, value in _options(wish.arguments)})
    found["port"] = [str(wish.port)] if wish.port else found.get("port", ["22"])
    found["user"] = [wish.user] if wish.user else found.get("user", [getpass.getuser()])
    defaults = [f"~/.ssh/id_{kind}" for kind in ("rsa", "ecdsa", "ed25519")]
    found["identityfile"] = [wish.key_file] if wish.key_file else found.get("identityfile", defaults)
    found.setdefault("userknownhostsfile", ["~/.ssh/known_hosts"])
    return found


def _make_route(wish: Wish, options: Options) -> Route:
    def one(name: str, default: str = "") -> str:
        value = options.get(name, [default])[0]
        return default if value == "none" else value

    host, user = one("hostname", wish.host), one("user") or getpass.getuser()
    port, proxy = _port(one("port", "22")), one("proxycommand") or None
    if proxy and one("proxyusefdpass") == "yes":
        raise UsageError("ProxyUseFdpass is not supported", next="use a ProxyCommand that carries the bytes itself")
    signs = percent_signs(wish.host, host, port, user, one("hostkeyalias"))
    known = [one(name) for name in ("userknownhostsfile", "globalknownhostsfile")]
    keys = expand_all(options.get("identityfile", ()), signs)
    return Route(
        host=host,
        port=port,
        user=user,
        key_files=tuple(path for path in keys if os.path.isfile(path) or os.path.isfile(f"{path}.pub")),
        certificates=expand_all(options.get("certificatefile", ()), signs),
        agent=_agent(options.get("identityagent", ["SSH_AUTH_SOCK"])[0], signs),
        only_named_keys=one("identitiesonly", "no") == "yes",
        known_hosts=expand_all([path for paths in known for path in split_paths(paths)], signs),
        revoked_keys=expand(one("revokedhostkeys"), signs),
        known_as=one("hostkeyalias"),
        accept_new=one("stricthostkeychecking") == "accept-new",
        hash_names=one("hashknownhosts", "no") == "yes",
        proxy_command=fill(proxy, quoted(h=host, p=str(port), r=user, n=wish.host)) if proxy else None,
        jumps=() if proxy else tuple(filter(None, one("proxyjump").split(","))),
        seconds=_whole(one("connecttimeout"), SECONDS),
        silence_seconds=_silence(one("serveraliveinterval"), one("serveralivecountmax")),
    )


def _port(written: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", written) or not 0 < int(written) < 1 << 16:
        raise UsageError(f"{ascii(written)[:20]} is not a port", next="see ansible_port")
    return int(written)


def _silence(interval: str, count: str) -> int:
    if not _whole(interval, 0):
        return SILENCE_SECONDS
    return max(LEAST_SILENCE_SECONDS, _whole(interval, 0) * _whole(count, 3))


def _whole(written: str, default: int) -> int:
    """A number of seconds, or of tries; beyond a day it means: as long as it takes."""
    return min(int(written[:9]), 86400) if re.fullmatch(r"[0-9]+", written) else default


def _agent(written: str, signs: Mapping[str, str]) -> str | None:
    if written == "none":
        return None
    if written == "SSH_AUTH_SOCK" or (written.startswith("$") and not written.startswith("${")):
        return os.environ.get(written.lstrip("$")) or None
    return expand(written, signs) or None


def _configuration_file(arguments: Sequence[str]) -> list[str]:
    """`-F FILE`, where it is among the words."""
    for word, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        if word.startswith("-F"):
            return ["-F", word[2:] or following]
    return []


def _written(arguments: Sequence[str], option: str) -> list[str]:
    """The values that the words give one option, split at blanks as ssh does."""
    return [part for name, value in _options(arguments) if name == option for part in value.split()]


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(name in lower case, value) of each `-o Name=value`, in all the ways of writing one."""
    words = iter(arguments)
    for word in words:
        if word.startswith("-o"):
            text = word[2:] or next(words, "")
            found = re.fullmatch(r"\s*(\w+)(?:\s*=\s*|\s+)(.*)", text)
            if found:
                yield found[1].lower(), found[2]
