"""docs/tutorial.md, followed to the letter on hosts that have sshd and Python alone.

The names web1 to web3.example.com are the lab's hosts: for `ssh`, and so for percore, by a configuration file; for `curl` by its
options. percore is the wheel of this checkout. Nothing else differs from what a reader types.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.lab import Lab
from tests.hosts.conftest import ROOT
from tests.hosts.reader import Command, Reader, steps_of
from tests.installed import build_wheel, environment

PAGE = (ROOT / "docs" / "tutorial.md").read_text()
GIT = {f"GIT_{who}_{what}": "reader@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab.up(3, bare=True, name=f"tutorial{os.getpid()}", project=tmp_path / "lab")
    yield lab
    lab.down()


@pytest.fixture
def reader(lab: Lab, wheel: Path, tmp_path: Path) -> Iterator[Reader]:
    (tmp_path / "work").mkdir()
    env = {**environment(make_programs(lab, tmp_path / "programs")), **GIT}
    with Reader(tmp_path / "work", env, {"'percore[deploy]'": f"'{wheel}[deploy]'"}) as reader:
        yield reader


def make_programs(lab: Lab, directory: Path) -> Path:
    """`ssh` and `curl` that know the lab's hosts by the names of the page."""
    directory.mkdir()
    first = lab.hosts[0]
    names = {f"web{number}.example.com": host.address for number, host in enumerate(lab.hosts, 1)}
    hosts = "".join(f"Host {name}\n  HostName {address}\n" for name, address in names.items())
    config = directory / "ssh_config"
    config.write_text(
        f"{hosts}Host *\n  IdentityFile {first.key}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {first.known_hosts}\n  ProxyCommand {first.proxy}\n"
    )
    found = [word for name, address in names.items() for word in ("--resolve", f"{name}:80:{address}")]
    inside = ["nsenter", f"--net=/run/netns/{lab.namespace}"]
    _write_program(directory / "ssh", [_real("ssh"), "-F", str(config)])
    _write_program(directory / "curl", [*inside, _real("curl"), "-m", "10", *found])
    return directory


def _real(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing"
    return found


def _write_program(path: Path, words: list[str]) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    path.chmod(0o755)


@pytest.mark.parametrize("heading", ["A Node.js app", "A Python app"])
def test_a_stranger_who_follows_the_tutorial_sees_what_it_says(reader: Reader, heading: str) -> None:
    reader.follow(steps_of(PAGE, "What you need"))
    reader.follow(steps_of(PAGE, heading))


@pytest.mark.parametrize(
    "text", ["$ echo three\nthe\n", "$ false\n", "$ sh -c 'exit 4'\n$ echo $?\n3\n", "$ echo a b\nb...\n"]
)
def test_what_the_page_says_wrongly_is_noticed(tmp_path: Path, text: str) -> None:
    steps = steps_of(f"## Part\n```console\n{text}```\n", "Part")
    with Reader(tmp_path, os.environ, {}) as reader, pytest.raises(AssertionError, match=r"exit code|the page says"):
        reader.follow(steps)


def test_each_app_of_the_tutorial_is_deployed_broken_and_rolled_back() -> None:
    for heading in ("A Node.js app", "A Python app"):
        typed = [step.line for step in steps_of(PAGE, heading) if isinstance(step, Command)]
        verbs = [line.split()[1] for line in typed if line.startswith("invoke ")]
        assert {"plan", "deploy", "status", "rollback", "logs"} <= set(verbs)
        assert "echo $?" in typed
