"""The page of maintenance: what it is made of, and where it cannot be shown."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from percore.deploy import maintenance
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.errors import PercoreError
from tests.nginx import render_site, text_of

SCOPE = Scope("production", Path("/nowhere"))


class Host:
    """One that is set up so far; it keeps what it was told to make."""

    forks = 5
    name = "web1"

    def __init__(self, *, nginx: bool = True, knows_the_page: bool = True) -> None:
        site = object() if nginx else None
        self.settings = SimpleNamespace(name="<shop>", deploy_to="/srv/shop", site=site)
        self.agent = SimpleNamespace(ask=lambda op, words: {"code": 0 if knows_the_page else 1})
        self.made: list[dict[str, Any]] = []

    def ask(self, op: str, *, resources: list[dict[str, Any]]) -> dict[str, Any]:
        self.made += resources
        return {"changed": ["it"]}


def run(monkeypatch: pytest.MonkeyPatch, host: Host, page: str = "") -> dict[str, Any]:
    @contextlib.contextmanager
    def open_hosts(scope: Scope, report: Report) -> Iterator[list[Host]]:
        yield [host]

    monkeypatch.setattr(maintenance, "open_hosts", open_hosts)
    maintenance.begin(SCOPE, Report(), page=page)
    [made] = host.made
    return made


def test_the_page_is_put_where_the_site_looks_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = run(monkeypatch, Host())
    assert (made["kind"], made["mode"]) == ("file", "0644")
    assert f"if (-f {made['path']})" in text_of(render_site(Path("/srv"), deploy_to="/srv/shop"))
    shown = base64.b64decode(made["content"]).decode()
    assert "&lt;shop&gt; is down for maintenance" in shown
    (tmp_path / "own.html").write_bytes(b"\xff own")
    assert base64.b64decode(run(monkeypatch, Host(), str(tmp_path / "own.html"))["content"]) == b"\xff own"


@pytest.mark.parametrize(
    ("host", "page", "said"),
    [
        (Host(nginx=False), "", "there is no NGINX that could show a page"),
        (Host(knows_the_page=False), "", "no site of its NGINX looks for the page -> deploy first"),
        (Host(), "/nowhere/page.html", "page '/nowhere/page.html' cannot be read: No such file"),
    ],
)
def test_where_no_page_could_be_shown_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, host: Host, page: str, said: str
) -> None:
    with pytest.raises(PercoreError, match=said.replace("(", r"\(")):
        run(monkeypatch, host, page)
    assert host.made == []
