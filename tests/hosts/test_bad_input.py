"""What a tired operator types, and what fails under him: one clear line, a fitting exit code, and everything still runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.conftest import Project, lab_project


@pytest.fixture
def serving(deployed: Project) -> Iterator[Project]:
    """Whatever the test does to the project, the hosts go on as before."""
    before = deployed.workers()
    yield deployed
    assert deployed.workers() == before


def refused(project: Project, code: int, *told: str, task: str = "deploy", env: str = "") -> None:
    done = project.invoke(task, "--env", env or project.env)
    assert done.returncode == code, done.stdout
    errors = [line for line in done.stdout.splitlines() if line.startswith("percore: ")]
    assert len(errors) == 1, done.stdout
    for words in told:
        assert words in done.stdout
    assert "Traceback" not in done.stdout


def test_an_unknown_environment_names_the_nearest(serving: Project) -> None:
    refused(serving, 2, "did you mean 'local'?", env="locla")


def test_invalid_yaml_is_told_with_file_and_line(serving: Project) -> None:
    path = serving.folder / "inventories" / "broken.yml"
    path.write_text("all:\n  hosts:\n    web1: {\n")
    refused(serving, 2, "broken.yml:4", env="broken")


def test_a_build_failure_shows_the_compilers_own_words(serving: Project) -> None:
    package = serving.folder / "examples" / "boltlink" / "package.json"
    text = package.read_text()
    package.write_text(text.replace("node transpile.js", "tsc"))
    try:
        with serving.changed_app("const port =", "const port: string ="):
            refused(serving, 3, "src/index.ts")
    finally:
        package.write_text(text)


def test_a_missing_dist_is_named(serving: Project) -> None:
    package = serving.folder / "examples" / "boltlink" / "package.json"
    text = package.read_text()
    package.write_text(text.replace("node transpile.js", "true"))
    try:
        refused(serving, 3, "dist")
    finally:
        package.write_text(text)


def test_an_unknown_key_of_the_process_file_is_told_with_the_nearest(deployed: Project) -> None:
    path = deployed.folder / "examples" / "boltlink" / "ecosystem.config.js"
    text = path.read_text()
    path.write_text(text.replace("kill_timeout:", "kill_timeot: 1, kill_timeout:"))
    try:
        assert "did you mean 'kill_timeout'?" in deployed.deploy()
    finally:
        path.write_text(text)


def test_a_host_that_is_down_stops_the_deploy_before_anything_changes(serving: Project) -> None:
    host = serving.lab.hosts[2]
    host.cut()
    try:
        with serving.touch_app("not to be deployed"):
            refused(serving, 7, "node3")
    finally:
        host.join()


def test_a_changed_host_key_is_refused(serving: Project) -> None:
    known = serving.lab.hosts[0].known_hosts
    text = known.read_text()
    lines = text.splitlines()
    keys = [line.split(" ", 1)[1] for line in lines]
    known.write_text(
        "".join(f"{line.split(' ', 1)[0]} {key}\n" for line, key in zip(lines, keys[1:] + keys[:1], strict=True))
    )
    try:
        with serving.touch_app("not to be deployed"):
            refused(serving, 3, "host key", "node1")
    finally:
        known.write_text(text)


def test_a_full_disk_is_told_and_nothing_is_left_of_the_release(tmp_path_factory: pytest.TempPathFactory) -> None:
    for project in lab_project(tmp_path_factory, "full", 1, "bookworm"):
        host = project.lab.hosts[0]
        host.run("mount -t tmpfs -o size=150M,mode=755 small /srv")
        project.deploy()
        serving, before = project.workers(), host.run("ls -A /srv/boltlink/releases")
        host.run("dd if=/dev/zero of=/srv/filler bs=1M count=200 2>/dev/null", check=False)
        with project.touch_app("not to be deployed"):
            refused(project, 3, "node1", "0 MB free")
            assert host.run("ls -A /srv/boltlink/releases") == before
            assert project.workers() == serving
            host.run("rm /srv/filler")
            project.deploy()
