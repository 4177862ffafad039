"""A certificate of a real ACME server, by a real client on the control machine; the challenge comes through a host's NGINX."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from percore.deploy.plan.variables import resolve_variables
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.verbs.renewal import renew_certificates
from tests.nginx import is_open, make_pair, render_site, serving, unverified
from tests.unit.deploy.test_render import content_of, plan
from tests.waiting import free_port, wait_for

TOOLS = ("nginx", "pebble", "pebble-challtestsrv", "lego")
pytestmark = pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"one of {', '.join(TOOLS)} is missing here")
NAME = "shop.example.com"


@contextlib.contextmanager
def running(*words: str, port: int, env: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(
        words, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: is_open(port), words[0])
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def acme_server(folder: Path, challenge_port: int) -> Iterator[str]:
    """The URL of its directory. It finds every name at 127.0.0.1, and asks it by http on `challenge_port`."""
    port, management, dns, dns_management = (free_port() for _ in range(4))
    certificate, key = make_pair(name="localhost")
    (folder / "server.crt").write_text(certificate)
    (folder / "server.key").write_text(key)
    settings = {
        "listenAddress": f"127.0.0.1:{port}", "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": f"{folder}/server.crt", "privateKey": f"{folder}/server.key", "httpPort": challenge_port,
        "tlsPort": free_port(), "ocspResponderURL": "", "externalAccountBindingRequired": False,
    }  # fmt: skip
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    zone = ("-dns01", f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{dns_management}", "-defaultIPv6", "")
    nothing_else = ("-http01", "", "-https01", "", "-tlsalpn01", "")
    quick = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
    config = ("-config", str(folder / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}")
    with (
        running("pebble-challtestsrv", *zone, *nothing_else, port=dns_management),
        running("pebble", *config, port=port, env=quick),
    ):
        yield f"https://localhost:{port}/dir"


def test_a_certificate_is_obtained_through_nginx_and_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEGO_CA_CERTIFICATES", str(tmp_path / "server.crt"))
    client_port, project = free_port(), tmp_path / "project"
    project.mkdir()
    with serving(tmp_path, nginx_acme=f"127.0.0.1:{client_port}") as (_, port), acme_server(tmp_path, port) as url:
        options = f"--server {url} --path acme --email ops@example.com --accept-tos --domains {NAME}"
        command = f"lego {options} --http --http.port {shlex.quote(f':{client_port}')} run"
        files = {"tls_certificate": f"acme/certificates/{NAME}.crt", "tls_key": f"acme/certificates/{NAME}.key"}
        made = plan({"roles": ["tls"], "tls_renew_command": command, **files})
        host = SimpleNamespace(plan=made, variables=resolve_variables(made), scope=Scope("production", project))
        renew_certificates([host], Report())  # type: ignore[list-item]
    own = {name: str(project / path) for name, path in files.items()}
    state = render_site(tmp_path, roles=["tls", "app"], tls_path=f"{tmp_path}/pair.pem", **own)
    (tmp_path / "pair.pem").write_text(content_of(state, f"{tmp_path}/pair.pem"))
    tls_port = free_port()
    with serving(tmp_path / "https", nginx_certificate=f"{tmp_path}/pair.pem", nginx_tls_port=tls_port):
        context = unverified()
        context.load_verify_locations(str(project / "acme" / "certificates" / f"{NAME}.issuer.crt"))
        with (
            socket.create_connection(("127.0.0.1", tls_port)) as link,
            context.wrap_socket(link, server_hostname=NAME) as tls,
        ):
            found = tls.getpeercert(binary_form=True)
    assert found
    assert found == subprocess.run(
        ["openssl", "x509", "-in", str(project / files["tls_certificate"]), "-outform", "DER"], capture_output=True, check=True
    ).stdout  # fmt: skip
