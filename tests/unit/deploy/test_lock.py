"""`invoke lock`: all hosts, or none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from percore.deploy import operations
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.errors import LockedError, PercoreError, UnreachableError

SCOPE = Scope("production", None)  # type: ignore[arg-type]


def host(name: str, **faults: PercoreError) -> Any:
    """`faults` by the operation that raises them."""
    asked: list[str] = []

    def ask(op: str, **_: Any) -> dict[str, Any]:
        asked.append(op)
        if op in faults:
            raise faults[op]
        return {}

    return SimpleNamespace(name=name, forks=4, ask=ask, asked=asked)


def lock(monkeypatch: pytest.MonkeyPatch, *hosts: Any) -> None:
    @contextlib.contextmanager
    def opened(*_: object, **__: object) -> Iterator[list[Any]]:
        yield list(hosts)

    monkeypatch.setattr(operations, "open_hosts", opened)
    operations.lock(SCOPE, Report(), why="maintenance")


def test_where_one_host_cannot_be_locked_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = [host("web1"), host("web2", hold=LockedError("another rollout is running here", where="web2"))]
    with pytest.raises(LockedError, match="web2: another rollout is running here"):
        lock(monkeypatch, *hosts)
    assert [one.asked for one in hosts] == [["hold", "let_go"], ["hold"]]


def test_a_host_that_stays_locked_all_the_same_is_named_with_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = [
        host("web1", let_go=UnreachableError("the link is cut", where="web1")),
        host("web2", hold=LockedError("no")),
    ]
    with pytest.raises(LockedError):
        lock(monkeypatch, *hosts)
    assert (
        "web1 stays locked: the link is cut -> invoke unlock --env production --limit web1" in capsys.readouterr().err
    )
