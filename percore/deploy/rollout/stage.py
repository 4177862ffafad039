"""Bringing a release to every host and having it verified there; nothing that runs is touched."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from percore.deploy.connection.stream import Part
from percore.deploy.report import Report
from percore.deploy.rollout.choose import Choice
from percore.deploy.rollout.parallel import count_hosts, on_all, stop_at
from percore.deploy.rollout.wanted import WantedApp, WantedHost

Contents = Mapping[Path, mmap.mmap]


def stage(choices: Sequence[Choice], report: Report) -> None:
    """Bring the release to every host and have it verified there; a fault on one host stops all."""
    app = choices[0].seen.wanted.app
    what = app.artifact.size_text if app else str(choices[0].host.scope.selection)
    report.phase("stage", f"{what} for each of {count_hosts(choices)}")
    with contextlib.ExitStack() as opened:
        contents = _map_files({path for choice in choices for path in _large_files(choice.seen.wanted)}, opened)
        faults = on_all(choices, lambda choice: stage_host(choice, contents, report)).faults
    if faults:
        report.host("all", "nothing was switched: what ran before still runs")
    stop_at(faults, report)


def _large_files(wanted: WantedHost) -> list[Path]:
    return [wanted.package.path, wanted.app.artifact.path] if wanted.app else []


def _map_files(paths: Iterable[Path], opened: contextlib.ExitStack) -> Contents:
    """Their contents, once in memory for however many hosts."""
    contents = {}
    for path in paths:
        file = opened.enter_context(path.open("rb"))
        contents[path] = opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return contents


def stage_host(choice: Choice, contents: Contents, report: Report) -> None:
    wanted = choice.seen.wanted
    if wanted.app is None:
        choice.host.ask("amend", report, parts=dict(wanted.selected.release_files()), **_plan_message(wanted))
    elif choice.is_staged:
        choice.host.ask(
            "prepare", report, resources=list(wanted.selected.prepare), handlers=list(wanted.state.handlers)
        )
    else:
        _send_release(choice, wanted, wanted.app, contents, report)
    report.host(choice.name, "staged before" if wanted.app and choice.is_staged else "staged and verified")


def _send_release(choice: Choice, wanted: WantedHost, app: WantedApp, contents: Contents, report: Report) -> None:
    artifact, package, command = app.artifact, wanted.package, choice.host.settings.release_command
    parts: dict[str, Part] = {
        **wanted.selected.release_files(),
        package.sha256: contents[package.path],
        artifact.sha256: contents[artifact.path],
    }
    choice.host.ask(
        "stage",
        report,
        parts=parts,
        release=choice.release,
        fingerprint=app.fingerprint,
        record=app.record_of(choice.release),
        absent=sorted(choice.host.absent_apps),
        digest=artifact.digest,
        shared={artifact.within(name): name for name in choice.host.settings.shared},
        commit=artifact.commit._asdict() if artifact.commit else None,
        irreversible=command is not None and command.irreversible,
        artifact={"sha256": artifact.sha256, "bytes": artifact.bytes, "unpacked_bytes": artifact.unpacked_bytes},
        package={
            "path": f"{choice.host.settings.package_path}/{package.id}",
            "sha256": package.sha256,
            "bytes": package.bytes,
            "unpacked_bytes": package.unpacked_bytes,
        },
        **_plan_message(wanted),
    )


def _plan_message(wanted: WantedHost) -> dict[str, Any]:
    """The host's plan as the agent keeps it beside the release."""
    selected = wanted.selected
    return {
        "activation": wanted.state.activation(),
        "selection": wanted.host.scope.selection._asdict(),
        "prepare": list(selected.prepare),
        "files": {sha256: len(content) for sha256, content in selected.release_files().items()},
    }
