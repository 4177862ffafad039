"""A handler that a change notifies is on the disk before the change is made, and leaves it only when it has run."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from percore.errors import RolloutError
from percore.host.release.change import handlers as handlers_module
from percore.host.release.change.handlers import PendingHandlers, describe, in_order, run_handler


def handler(name: str, *words: str) -> dict[str, object]:
    return {"kind": "run", "name": name, "run": list(words or ("true",)), "seconds": 5}


def test_what_is_notified_is_pending_until_it_has_run_also_by_another_run(tmp_path: Path) -> None:
    pending, handlers = PendingHandlers(str(tmp_path / "owed.json")), [handler("index"), handler("mail")]
    pending.notify({"notify": ["mail"]}, handlers, "change /etc/mail")
    pending.notify({}, handlers, "change /etc/motd")
    later = PendingHandlers(pending.path)
    assert later.texts() == ["run true, because: change /etc/mail"]
    later.remove("mail")
    assert pending.read() == {}


def test_handlers_run_in_the_order_of_the_roles_and_those_of_former_roles_first(tmp_path: Path) -> None:
    pending, handlers = PendingHandlers(str(tmp_path / "owed.json")), [handler("a"), handler("b")]
    for name in ("b", "a", "former"):
        pending.add(handler(name), "a test")
    assert [each["handler"]["name"] for each in in_order(pending.read(), handlers)] == ["former", "a", "b"]


def test_the_note_is_private_and_a_broken_one_is_told(tmp_path: Path) -> None:
    pending = PendingHandlers(str(tmp_path / "deploy_to" / "owed.json"))
    pending.add(handler("a"), "a test")
    assert stat.S_IMODE(Path(pending.path).stat().st_mode) == 0o600
    Path(pending.path).write_text(json.dumps({"a": 1})[:-1])
    with pytest.raises(
        RolloutError, match=r"owed\.json: is not valid JSON -> restart the services whose files changed"
    ):
        pending.read()


def test_a_handler_that_fails_says_how(tmp_path: Path) -> None:
    with pytest.raises(RolloutError, match="exit code 3: no index"):
        run_handler(handler("index", "sh", "-c", "echo no index; exit 3"))
    assert describe(handler("index", "sh", "-c", "x")) == "run sh -c x"


def test_a_unit_that_was_started_since_needs_no_handler_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = {"nginx.service": "first", "redis.service": "first"}
    monkeypatch.setattr(handlers_module, "_invocation", lambda unit: started[unit] if unit else "")
    pending = PendingHandlers(str(tmp_path / "owed.json"))
    for name in ("nginx", "redis"):
        pending.add({"kind": "restart", "name": name, "unit": f"{name}.service"}, "a test")
    pending.add(handler("index"), "a test")
    started["redis.service"] = "second"
    assert list(pending.outstanding()) == ["nginx", "index"]
    assert list(pending.read()) == ["nginx", "redis", "index"]  # whoever runs them drops it
