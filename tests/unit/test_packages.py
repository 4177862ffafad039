"""Packages of the operating system: named before apt runs, and refused where somebody does not want them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from percore import packages
from percore.errors import PreflightError
from percore.lab import image
from tests import machine

APT = '#!/bin/sh\necho "$@" >>"$0.log"\n'


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt-get that writes down what it is told, and the user root."""
    program = tmp_path / "apt-get"
    program.write_text(APT)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv(packages.REFUSE, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path / "apt-get.log"


def test_what_is_installed_is_named_in_one_line(apt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packages.install_packages(["redis-server", "zsh"], "test")
    assert capsys.readouterr().err == (
        "test: installing with apt: redis-server zsh (PERCORE_NO_INSTALL=1 refuses this)\n"
    )
    update, install = apt.read_text().splitlines()
    assert update.endswith(" update")
    assert install.endswith(" install -y --no-install-recommends redis-server zsh")


def test_it_is_named_before_apt_runs(apt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apt.with_name("apt-get").write_text("#!/bin/sh\necho 'E: no such package' >&2; exit 100\n")
    with pytest.raises(PreflightError, match="'apt-get update' failed") as failed:
        packages.install_packages(["zsh"], "the lab")
    assert failed.value.detail == "E: no such package"
    assert capsys.readouterr().err.startswith("the lab: installing with apt: zsh ")


@pytest.mark.parametrize("reason", ["refused", "not root", "no apt"])
def test_where_it_may_not_be_the_packages_are_named_and_nothing_is_run(
    apt: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    if reason == "refused":
        monkeypatch.setenv(packages.REFUSE, "1")
    elif reason == "not root":
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
    else:
        monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PreflightError, match="the lab needs what is missing here: zsh -> install these packages"):
        packages.install_packages(["zsh"], "the lab")
    assert not apt.exists()


def test_the_test_command_names_what_it_may_not_install_and_goes_on(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(packages.REFUSE, "1")
    monkeypatch.setenv("PATH", "/nowhere")
    said: list[str] = []
    machine.prepare(said.append)
    [line] = said
    for name in ("redis-server", "nodejs", "systemd-container", "qemu-user-static"):
        assert name in line
    assert "tests that need them fail, or are skipped" in line
    assert not apt.exists()


def test_the_lab_installs_its_tools_in_the_same_way(
    apt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image, "missing_packages", lambda: ["mmdebstrap"])
    image.need_tools()
    assert "the lab: installing with apt: mmdebstrap (" in capsys.readouterr().err
