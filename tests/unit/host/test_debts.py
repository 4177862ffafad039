"""What a change owes is on the disk before it is made, and leaves it only when it was paid."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from percore.errors import RolloutError
from percore.host.release.handlers import Debts, describe, in_order, pay


def run_handler(name: str, *words: str) -> dict[str, object]:
    return {"kind": "run", "name": name, "run": list(words or ("true",)), "seconds": 5}


def test_what_is_notified_is_owed_until_it_is_settled_also_by_another_run(tmp_path: Path) -> None:
    debts, handlers = Debts(str(tmp_path / "owed.json")), [run_handler("index"), run_handler("mail")]
    debts.notify({"notify": ["mail"]}, handlers, "change /etc/mail")
    debts.notify({}, handlers, "change /etc/motd")
    later = Debts(debts.path)
    assert later.texts() == ["run true, because: change /etc/mail"]
    later.settle("mail")
    assert debts.read() == {}


def test_handlers_run_in_the_order_of_the_roles_and_those_of_former_roles_first(tmp_path: Path) -> None:
    debts, handlers = Debts(str(tmp_path / "owed.json")), [run_handler("a"), run_handler("b")]
    for name in ("b", "a", "former"):
        debts.owe(run_handler(name), "a test")
    assert [debt["handler"]["name"] for debt in in_order(debts.read(), handlers)] == ["former", "a", "b"]


def test_the_note_is_private_and_a_broken_one_is_told(tmp_path: Path) -> None:
    debts = Debts(str(tmp_path / "deploy_to" / "owed.json"))
    debts.owe(run_handler("a"), "a test")
    assert stat.S_IMODE(Path(debts.path).stat().st_mode) == 0o600
    Path(debts.path).write_text(json.dumps({"a": 1})[:-1])
    with pytest.raises(RolloutError, match=r"owed\.json: is not valid JSON -> restart what may owe it"):
        debts.read()


def test_a_handler_that_fails_says_how(tmp_path: Path) -> None:
    with pytest.raises(RolloutError, match="exit code 3: no index"):
        pay(run_handler("index", "sh", "-c", "echo no index; exit 3"))
    assert describe(run_handler("index", "sh", "-c", "x")) == "run sh -c x"
