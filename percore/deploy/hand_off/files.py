"""The files for a load balancer in front of an app's hosts. Pure but for reading templates: the same input, the same bytes."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from percore.deploy.hand_off.settings import EdgeSettings
from percore.deploy.plan.nginx_names import nginx_id
from percore.deploy.plan.peers import EdgePeer
from percore.deploy.plan.variables import render_text

SUMS = "SHA256SUMS"
UNTOLD = "0" * 64
"""Instead of the hash of a file that holds secrets, which it would help to guess."""

Files = Mapping[str, bytes]
"""By name."""


@dataclass(frozen=True)
class HandOff:
    """One app's hosts, and how a load balancer is to reach them. `left` are sentences on what it does not take over."""

    name: str
    env: str
    peers: tuple[EdgePeer, ...]
    server_name: str
    health_path: str
    settings: EdgeSettings
    left: tuple[str, ...] = ()

    @property
    def edge_id(self) -> str:
        return nginx_id(self.settings.name or self.name)

    @property
    def path(self) -> str:
        """Where ops most likely put it."""
        return f"/etc/nginx/conf.d/{self.name}.conf"

    def values(self) -> dict[str, Any]:
        """For the templates."""
        return {
            "app_name": self.name,
            "env_name": self.env,
            "edge_id": self.edge_id,
            "edge": {**asdict(self.settings), "key": self.settings.key},
            "servers": self.peers,
            "server_name": self.server_name,
            "nginx_body_size": self.settings.body_size,
            "check": self.health_path,
        }


def make_files(apps: Sequence[HandOff], env: str, templates: Path) -> dict[str, bytes]:
    """Everything that is handed over for an environment."""
    found: dict[str, bytes] = {}
    for app in apps:
        for name, template in _templates_of(app.name):
            found[name] = render_text(template, app.values(), templates).encode()
    values = {"env_name": env, "apps": [_described(app) for app in apps]}
    found["README.md"] = render_text("edge-README.md.j2", values, templates).encode()
    found[SUMS] = sums_of(found)
    return found


def _templates_of(name: str) -> list[tuple[str, str]]:
    return [
        (f"{name}.conf", "nginx-edge.conf.j2"),
        (f"{name}.upstream.conf", "nginx-edge-upstream.conf.j2"),
        (f"{name}.haproxy.cfg", "haproxy-edge.cfg.j2"),
    ]


def sums_of(files: Files, secret: Collection[str] = ()) -> bytes:
    """As `sha256sum` prints them."""
    told = {name: UNTOLD if name in secret else digest_of(files[name]) for name in sorted(files)}
    return "".join(f"{digest}  {name}\n" for name, digest in told.items()).encode()


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_sums(text: str) -> dict[str, str]:
    """The hash of each file that percore wrote, by name; what is no such line is nothing of ours."""
    found = re.findall(r"^([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9._-]*)$", text, re.MULTILINE)
    return {name: digest for digest, name in found}


def _described(app: HandOff) -> dict[str, Any]:
    return {
        "name": app.name,
        "edge_id": app.edge_id,
        "path": app.path,
        "certificate": app.settings.certificate,
        "key": app.settings.key,
        "peers": [{**asdict(peer), "endpoint": peer.endpoint, **drain_lines(app, peer)} for peer in app.peers],
        "left": app.left,
    }


def drain_lines(app: HandOff, peer: EdgePeer) -> dict[str, str]:
    """What ops type. Typed twice, each does nothing the second time."""
    endpoint = re.sub(r"([][.*^$/])", r"\\\1", peer.endpoint)
    server = f"/^ *server {endpoint} /"
    haproxy = f'echo "set server {app.edge_id}/{peer.word} state %s" | socat stdio /run/haproxy/admin.sock'
    return {
        "nginx_drain": shlex.join(["sed", "-i", f"{server}{{/ down;/!s/;/ down;/}}", app.path]),
        "nginx_undrain": shlex.join(["sed", "-i", f"{server}s/ down;/;/", app.path]),
        "haproxy_drain": haproxy % "drain",
        "haproxy_undrain": haproxy % "ready",
    }
