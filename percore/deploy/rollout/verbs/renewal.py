"""Certificates that a client of the control machine obtains: once for all hosts, before these are set up with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from percore.deploy.alerts.run import Run
from percore.deploy.plan.settings import HookCommand
from percore.deploy.report import Report
from percore.deploy.rollout.hooks import Hooks
from percore.deploy.rollout.host import Host
from percore.deploy.schema import TEXT, optional, read_variable, whole
from percore.errors import PreflightError, UsageError

_COMMAND, _DAYS = optional(TEXT), whole(least=1, most=3650)
_NAME = "tls_renew"


def renew_certificates(hosts: Sequence[Host], report: Report) -> None:
    """`tls_renew_command` of each certificate that is missing, or ends within `tls_renew_days`; each command once."""
    from percore.deploy.plan.certificates import ends_within  # loads cryptography

    done: set[str] = set()
    for host in hosts:
        command, path = _renewal(host)
        if command and command not in done and ends_within(path, _days(host)):
            done.add(command)
            scope = host.scope
            on_setup = {_NAME: (HookCommand(command, ("setup",)),)}
            Hooks(on_setup, Run("setup", scope.env, scope.project, report)).run(_NAME)
            if ends_within(path, _days(host)):
                raise PreflightError(
                    f"tls_renew_command ended well, and {path} is no certificate that ends later than in {_days(host)} days",
                    next="let tls_certificate name the file that the command writes",
                )


def _renewal(host: Host) -> tuple[str, Path]:
    """The command, and the file that it makes; an empty one where the host's certificate comes from elsewhere."""
    variables = host.variables
    if not any(role.name == "tls" for role in host.plan.roles):
        return "", Path()
    command = read_variable(variables, "tls_renew_command", _COMMAND) or ""
    written = str(variables.get("tls_certificate", "")).strip()
    if command and (not written or "-----BEGIN" in written):
        raise UsageError(
            "tls_renew_command needs a file that it writes",
            where=variables.where("tls_renew_command"),
            next="set tls_certificate and tls_key to the paths of its files",
        )
    return command, host.scope.project / Path(written).expanduser()


def _days(host: Host) -> int:
    return read_variable(host.variables, "tls_renew_days", _DAYS)
