"""Telling an event to its targets, all at the same time. One that cannot be told is a warning: an alert stops no run."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import urllib.error
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from percore.common.passwords import for_programs
from percore.deploy.alerts.alert import Alert
from percore.deploy.alerts.shell import shell_command
from percore.deploy.alerts.targets import AlertTarget
from percore.deploy.masking import REDACTOR
from percore.deploy.report import Report
from percore.supervisor.automation.webhook import post

_POST_SECONDS = 10.0
_COMMAND_SECONDS = 30.0
_MOST_THREADS = 8


def send(event: Alert, targets: Sequence[AlertTarget], project: Path, report: Report) -> int:
    """Returns when every target was told, or gave up: how many gave up."""
    wanted = [target for target in targets if event.kind in target.on]
    if not wanted:
        return 0
    with ThreadPoolExecutor(min(len(wanted), _MOST_THREADS)) as pool:
        faults = list(pool.map(lambda target: _tell(event, target, project), wanted))
    for target, fault in zip(wanted, faults, strict=True):
        if fault:
            report.warn(f"the alert '{event.kind}' did not reach {target.name}: {fault}")
    return sum(map(bool, faults))


def _tell(event: Alert, target: AlertTarget, project: Path) -> str:
    """What failed; empty when nothing did."""
    if target.command:
        return _run(event, target.command, project)
    return _post(event, target) if target.is_webhook else _notify(event, target)


def _body(event: Alert) -> bytes:
    return json.dumps(REDACTOR.value(event.as_json())).encode()


def _run(event: Alert, command: str, project: Path) -> str:
    """It gets the event on its standard input, and the main things in variables."""
    known = {"event": event.kind, "event_title": event.title, "event_reason": event.reason, "env": event.env}
    env = for_programs(**{f"PERCORE_{name.upper()}": REDACTOR.text(value) for name, value in known.items()})
    with subprocess.Popen(
        shell_command(command), cwd=project, env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said = process.communicate(_body(event), timeout=_COMMAND_SECONDS)[1]
        except subprocess.TimeoutExpired:
            _kill(process)
            return f"it did not end within {_COMMAND_SECONDS:g} s and was killed"
    last = said.decode(errors="replace").strip().splitlines()[-1:]
    return ": ".join([f"exit code {process.returncode}", *last]) if process.returncode else ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With what it started, where there are process groups."""
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)


def _post(event: Alert, target: AlertTarget) -> str:
    try:
        post(target.address, _body(event), target.secret, _POST_SECONDS)
    except urllib.error.HTTPError as error:
        return f"the answer was {error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return ""


def _notify(event: Alert, target: AlertTarget) -> str:
    from apprise import Apprise, AppriseAsset, NotifyType

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it would show addresses
    kinds = {"done": NotifyType.SUCCESS, "recovered": NotifyType.SUCCESS}
    service = Apprise(asset=AppriseAsset(app_id="percore", app_desc="percore", app_url=""))
    service.add(target.address)
    title, text = REDACTOR.text(event.title), REDACTOR.text(event.text)
    told = service.notify(body=text, title=title, notify_type=kinds.get(event.kind, NotifyType.FAILURE))
    return "" if told else "the service did not take it"
