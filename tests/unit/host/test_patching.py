"""Which packages are to be upgraded, and what has to start again after them."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

import pytest

from percore.host.patching import packages, restarts
from percore.host.patching.packages import find_upgrades, read_plan
from percore.host.patching.restarts import (
    newest_kernel,
    reasons_to_reboot,
    units_with_replaced_code,
    uses_replaced_code,
)

SAID = """NOTE: This is only a simulation!
Reading package lists...
The following packages will be upgraded:
  libssl3 tzdata
Inst libssl3 [3.0.11-1~deb12u2] (3.0.13-1~deb12u1 Debian-Security:12/stable-security [amd64])
Inst tzdata [2024a-0+deb12u1] (2024b-0+deb12u1 Debian:12.8/stable [all])
Inst linux-image-6.1.0-27-amd64 (6.1.115-1 Debian-Security:12/stable-security, Debian:12.8/stable [amd64])
Inst perl-base [5.36.0-7] (5.36.0-7+deb12u1 localhost [amd64]) [perl:amd64 ]
Conf libssl3 (3.0.13-1~deb12u1 Debian-Security:12/stable-security [amd64])
"""


def test_the_plan_of_apt_is_read_with_what_comes_from_the_security_archive() -> None:
    found = read_plan(SAID)
    assert [str(upgrade) for upgrade in found] == [
        "libssl3 3.0.13-1~deb12u1", "tzdata 2024b-0+deb12u1", "linux-image-6.1.0-27-amd64 6.1.115-1",
        "perl-base 5.36.0-7+deb12u1",
    ]  # fmt: skip
    assert [upgrade.name for upgrade in found if upgrade.is_security] == ["libssl3", "linux-image-6.1.0-27-amd64"]
    assert found[2].former == ""


def test_nothing_is_fetched_to_look_and_with_security_only_what_is_installed_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def apt_get(_: object, *words: str) -> str:
        asked.append(words[0])
        return SAID

    monkeypatch.setattr(packages, "find_program", lambda _: "/usr/bin/apt-get")
    monkeypatch.setattr(packages, "_apt_get", apt_get)
    assert [upgrade.name for upgrade in find_upgrades(print, security=True, fresh=False)] == ["libssl3"]
    assert asked == ["--simulate"]
    find_upgrades(print, security=False, fresh=True)
    assert asked[1:] == ["update", "--simulate"]


@pytest.mark.parametrize(
    ("running", "names", "newest"),
    [
        ("6.1.0-9-amd64", ["vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-27-amd64", "initrd.img-9"], "6.1.0-27-amd64"),
        ("6.1.0-27-amd64", ["vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-27-amd64"], ""),
        ("6.18.44-other", ["vmlinuz-6.1.0-27-amd64"], ""),
        ("6.1.0-27-amd64", [], ""),
        ("6.12.9-amd64", ["vmlinuz-6.12.9-amd64", "vmlinuz-6.12.10-amd64"], "6.12.10-amd64"),
    ],
)
def test_a_newer_kernel_is_a_reason_to_reboot_unless_the_kernel_is_none_of_the_hosts_own(
    running: str, names: list[str], newest: str
) -> None:
    assert newest_kernel(running, names) == newest


def test_what_asks_for_a_reboot_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(restarts, "_FLAGS", (str(tmp_path / "flag"),))
    monkeypatch.setattr(restarts, "_PACKAGES", str(tmp_path / "flag.pkgs"))
    monkeypatch.setattr(restarts, "uses_replaced_code", lambda _: False)
    assert reasons_to_reboot() == []
    (tmp_path / "flag").touch()
    assert reasons_to_reboot() == ["an upgrade asks for it"]
    (tmp_path / "flag.pkgs").write_text("linux-base\nlibc6\nlibc6\n")
    assert reasons_to_reboot() == ["asked for by linux-base, libc6"]


def test_a_process_whose_library_was_replaced_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not uses_replaced_code(os.getpid())
    monkeypatch.setattr(restarts, "_CODE", (str(tmp_path),))
    monkeypatch.setattr(restarts, "unit_of", lambda pid: "shop.service" if pid == os.getpid() else "")
    library = tmp_path / "lib.so"
    library.write_bytes(Path(sys.executable).resolve().read_bytes()[:4096])
    with library.open("rb") as file, mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC):
        assert units_with_replaced_code() == []
        library.unlink()
        assert units_with_replaced_code() == ["shop.service"]
