"""Debian 11, 12 and 13 as hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.conftest import Project, lab_project, set_variables

CERTIFICATE = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=a -keyout /root/key -out /root/edge.pem"


@pytest.fixture(scope="module", params=["bullseye", "trixie"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    yield from lab_project(tmp_path_factory, request.param, 1, request.param)


def judge_load_balancer(project: Project) -> None:
    """The file for ops, by the NGINX of this Debian."""
    host, directory = project.lab.hosts[0], project.folder / "build" / "nginx" / project.env
    text = (directory / "boltlink.conf").read_text().replace("default_server", "")
    (host.root / "root/edge.conf").write_text(text)
    (host.root / "root/nginx.conf").write_text("events {} http { include /root/edge.conf; }\n")
    host.run("nginx -t -c /root/nginx.conf")


def test_the_app_is_deployed_reloaded_under_load_and_rolled_back(other: Project) -> None:
    set_variables(other, edge_certificate="/root/edge.pem", edge_keepalive=4)
    other.lab.hosts[0].run(f"{CERTIFICATE}; cat /root/key >>/root/edge.pem")
    other.deploy()
    judge_load_balancer(other)
    first = other.releases()
    with other.touch_app("another release"), other.load() as counts:
        other.deploy()
    assert counts["failures"] == []
    assert other.releases() != first
    assert other.invoke("rollback", "--env", other.env).returncode == 0
    assert other.releases() == first
