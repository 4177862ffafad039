"""The wheel and the source distribution: what is in them, for whom, and that anyone can build the same."""

from __future__ import annotations

import email
import hashlib
import os
import shutil
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from percore import __version__
from tests.archives import unpack
from tests.installed import ROOT, build, build_wheel, copy_sources

pytestmark = pytest.mark.skipif(
    not shutil.which("aarch64-linux-gnu-gcc"), reason="a compiler for aarch64 is not installed"
)
DATA = f"percore-{__version__}.data/data"
INFO = f"percore-{__version__}.dist-info"
SHIPPED = "percore/deploy/shipped"
OF_A_BUILD = {
    "percore/supervisor/percore.service.j2",
    *(f"percore/supervisor/sockets/bindshim-{machine}.so" for machine in ("x86_64", "aarch64")),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def read_message(wheel: Path, name: str) -> Message:
    return email.message_from_bytes(zipfile.ZipFile(wheel).read(f"{INFO}/{name}"))


def files_below(place: str) -> set[str]:
    found = (path.relative_to(ROOT).as_posix() for path in (ROOT / place).rglob("*") if path.is_file())
    return {name for name in found if "__pycache__" not in name and not name.endswith((".so", ".c"))}


def test_the_wheel_has_all_that_percore_needs_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith(INFO)}
    shipped = {f"{SHIPPED}/{name}" for name in files_below("roles") | files_below("templates")}
    assert names == files_below("percore") | shipped | {f"{DATA}/{name}" for name in files_below("share")} | OF_A_BUILD


def test_the_wheel_is_for_every_system_and_says_for_which_python(wheel: Path) -> None:
    """No module in it is compiled; the shims are data for programs of Linux."""
    assert read_message(wheel, "WHEEL").get_all("Tag") == ["py3-none-any"]
    about = read_message(wheel, "METADATA")
    assert (about["Version"], about["Requires-Python"], about["License-Expression"]) == (__version__, ">=3.9", "MIT")
    pythons = {each.rpartition(" ")[2] for each in about.get_all("Classifier", ()) if "Python :: 3." in each}
    assert pythons == {f"3.{minor}" for minor in range(9, 15)}


def test_a_source_distribution_makes_the_same_wheel_without_npm_whatever_the_umask(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    npm = tmp_path / "bin" / "npm"
    npm.write_text("#!/bin/sh\necho npm was asked >&2; exit 1\n")
    npm.chmod(0o755)
    path = f"{npm.parent}:{os.environ['PATH']}"
    first = build(copy_sources(tmp_path / "one"), "sdist", tmp_path / "first", PATH=path)
    former = os.umask(0o077)
    try:
        unpack(first, tmp_path / "two")
        source = next((tmp_path / "two").iterdir())
        second = build(closed(copy_sources(tmp_path / "three")), "sdist", tmp_path / "second", PATH=path)
        again = build(source, "wheel", tmp_path / "wheel", PATH=path)
    finally:
        os.umask(former)
    assert digest(again) == digest(wheel)
    assert digest(second) == digest(first)
    assert {"CHANGELOG.md", "LICENSE", "SECURITY.md", "percore", "roles", "share"} <= {
        each.name for each in source.iterdir()
    }


def closed(directory: Path) -> Path:
    for path in directory.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return directory


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
