"""A host's set-up is done as a whole, or rolled back; what an agent left behind is rolled back by the next one."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from percore.errors import RolloutError
from percore.host.diff import compare
from percore.host.messages import CompareRequest, SetUpRequest, TargetPaths
from percore.host.release.target import Target
from percore.host.setup.set_up import SetUp, unfinished_change

Message = dict[str, Any]


def file_of(path: Path, text: str, **more: Any) -> Message:
    return {
        "kind": "file",
        "path": str(path),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "text": text,
        **more,
    }


def as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def build_of(folder: Path, version: str, *, says: str = "v22.11.0") -> Message:
    """A build of Node.js that is a script."""
    made, program = io.BytesIO(), f"#!/bin/sh\necho {says}\n".encode()
    with tarfile.open(fileobj=made, mode="w") as tar:
        member = tarfile.TarInfo("package/bin/node")
        member.size, member.mode = len(program), 0o755
        tar.addfile(member, io.BytesIO(program))
    archive = gzip.compress(made.getvalue(), mtime=0)
    return {
        "kind": "node", "version": version, "path": str(folder / "node"), "exact": "22.11.0", "text": archive,
        "sha256": hashlib.sha256(archive).hexdigest(), "unpacked_bytes": len(program),
    }  # fmt: skip


def target_of(folder: Path) -> Target:
    place = str(folder / "setup")
    return Target(TargetPaths(place, [f"{place}/none"], place, place))


def run(folder: Path, *specs: Message, handlers: tuple[Message, ...] = ()) -> list[str]:
    (folder / "setup").mkdir(exist_ok=True)
    target = target_of(folder)
    wanted: list[str] = []
    texts = {spec["sha256"]: as_bytes(spec["text"]) for spec in specs if "sha256" in spec}
    sizes = {sha256: len(content) for sha256, content in texts.items()}
    source = io.BytesIO()

    def emit(event: Message) -> None:
        if event["event"] == "need":
            wanted.extend(event["parts"])
            source.write(b"".join(texts[sha256] for sha256 in wanted))
            source.seek(0)

    change = SetUp(target, emit)
    plain = [{key: value for key, value in spec.items() if key != "text"} for spec in specs]
    paths = TargetPaths(target.releases.deploy_to, [], "", "")
    request = SetUpRequest(paths, plain, list(handlers), sizes, owner="ann", run="1")
    return change.run(request, source, {"pid": 1, "start_time": 1})


def keep(folder: Path) -> None:
    change = unfinished_change(target_of(folder), lambda event: None)
    assert isinstance(change, SetUp)
    change.record.journal.end()


def test_what_differs_is_changed_and_said_and_the_rest_is_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "same").write_text("same")
    (tmp_path / "same").chmod(0o644)
    changed = run(tmp_path, file_of(tmp_path / "same", "same"), file_of(tmp_path / "new", "new"))
    assert changed == [f"create {tmp_path / 'new'}"]
    assert (tmp_path / "new").read_text() == "new"


def test_nothing_changes_when_one_of_the_files_is_not_valid(tmp_path: Path) -> None:
    bad = file_of(tmp_path / "second", "bad", validate=["grep", "-q", "good", "%s"])
    with pytest.raises(RolloutError, match="second is not valid"):
        run(tmp_path, file_of(tmp_path / "first", "new"), bad)
    assert not (tmp_path / "first").exists()


def test_a_file_that_names_one_still_to_be_made_is_verified_when_that_is_there(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate"
    make = {"kind": "command", "run": ["touch", str(certificate)], "creates": str(certificate)}
    conf = file_of(tmp_path / "conf", f"uses {certificate}", validate=["test", "-e", str(certificate)])
    run(tmp_path, make, conf)
    assert (tmp_path / "conf").exists()
    keep(tmp_path)
    certificate.unlink()
    never = {**make, "run": ["true"]}
    with pytest.raises(RolloutError, match="other is not valid"):
        run(tmp_path, never, {**conf, "path": str(tmp_path / "other")})


def test_a_step_that_fails_rolls_back_those_before(tmp_path: Path) -> None:
    (tmp_path / "first").write_text("old")
    fails = {"kind": "command", "run": ["false"], "creates": str(tmp_path / "never")}
    with pytest.raises(RolloutError, match="'false' failed"):
        run(tmp_path, file_of(tmp_path / "first", "new"), file_of(tmp_path / "second", "new"), fails)
    assert (tmp_path / "first").read_text() == "old"
    assert not (tmp_path / "second").exists()
    assert unfinished_change(target_of(tmp_path), lambda event: None) is None


def test_a_command_runs_after_the_handlers_that_the_files_before_it_notified(tmp_path: Path) -> None:
    log = tmp_path / "log"
    told = {"kind": "run", "name": "tell", "run": ["sh", "-c", f"echo handler >>{log}"], "seconds": 5}
    command = {"kind": "command", "run": ["sh", "-c", f"echo command >>{log}"], "creates": str(tmp_path / "never")}
    run(tmp_path, file_of(tmp_path / "conf", "new", notify=["tell"]), command, handlers=(told,))
    assert log.read_text() == "handler\ncommand\n"


def test_what_was_never_confirmed_is_rolled_back_by_whoever_comes_next(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("old")
    run(tmp_path, file_of(tmp_path / "conf", "new"))
    left = unfinished_change(target_of(tmp_path), lambda event: None)
    assert isinstance(left, SetUp)
    left.roll_back()
    assert (tmp_path / "conf").read_text() == "old"


def test_after_it_was_kept_nothing_is_rolled_back(tmp_path: Path) -> None:
    run(tmp_path, file_of(tmp_path / "conf", "new"))
    keep(tmp_path)
    assert unfinished_change(target_of(tmp_path), lambda event: None) is None
    assert (tmp_path / "conf").read_text() == "new"


def test_versions_of_node_that_are_the_same_build_are_both_there_and_nothing_is_left_over(tmp_path: Path) -> None:
    changed = run(tmp_path, build_of(tmp_path, "22"), build_of(tmp_path, "22.11.0"))
    place = tmp_path / "node"
    assert changed == [f"install Node.js 22 in {place}", f"install Node.js 22.11.0 in {place}"]
    assert (place / "22").readlink() == Path("22.11.0")
    assert sorted(path.name for path in place.iterdir()) == ["22", "22.11.0"]
    assert list((tmp_path / "setup" / "artifacts").iterdir()) == []


def test_a_build_of_node_that_does_not_run_here_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(RolloutError, match=r"the build of Node.js 22.11.0 does not run here: v20.1.0"):
        run(tmp_path, build_of(tmp_path, "22", says="v20.1.0"))
    assert list((tmp_path / "node").iterdir()) == []


def diff_to(folder: Path, spec: Message) -> str:
    texts = {spec["sha256"]: spec["text"].encode()}
    request = CompareRequest(
        TargetPaths("", [], "", ""), [spec], [], {sha256: len(text) for sha256, text in texts.items()}, True, ""
    )
    [change] = compare(target_of(folder), request, lambda sizes, wanted: texts).changes
    return change.diff


def test_a_line_that_was_a_secret_is_not_shown_when_it_goes(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    run(tmp_path, file_of(conf, "port 1\npassword swordfish\n", secret={"2": "password ********"}))
    keep(tmp_path)
    shown = diff_to(tmp_path, file_of(conf, "port 2\n", secret={}))
    assert "-port 1\n-password ********\n+port 2\n" in shown
    conf.write_text("port 3\npassword swordfish\n")
    assert "-********\n-********\n+port 2\n" in diff_to(tmp_path, file_of(conf, "port 2\n", secret={}))


def test_what_a_set_up_that_failed_had_put_does_not_count_as_put(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    run(tmp_path, file_of(conf, "password swordfish\n", secret={"1": "password ********"}))
    keep(tmp_path)
    run(tmp_path, file_of(conf, "none\n", secret={}))
    left = unfinished_change(target_of(tmp_path), lambda event: None)
    assert left is not None
    left.roll_back()
    assert "swordfish" not in diff_to(tmp_path, file_of(conf, "none\n", secret={}))


def test_what_was_put_is_forgotten_where_its_record_is_damaged_and_then_no_line_is_shown(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    run(tmp_path, file_of(conf, "password swordfish\n", secret={"1": "password ********"}))
    (tmp_path / "setup" / "placed.json").write_text("{")
    assert "-********\n+none\n" in diff_to(tmp_path, file_of(conf, "none\n", secret={}))
