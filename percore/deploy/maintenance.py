"""The page that NGINX shows instead of the app. One file is both the page and the switch: it is there, or not."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from percore.common.bounds import read_file
from percore.deploy.connection.messages import Changed
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import open_hosts
from percore.deploy.rollout.parallel import all_or_stop, count_hosts
from percore.deploy.rollout.scope import Scope
from percore.errors import PreflightError, UsageError

MOST_PAGE = 1 << 20
_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: maintenance</title>
<style>body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 34rem; margin: 20vh auto; padding: 0 1.5rem }}</style>
<h1>We will be back soon</h1>
<p>{name} is down for maintenance.</p>
</html>
"""


def begin(scope: Scope, report: Report, *, page: str) -> None:
    """On every host, from the next request on; until `end`, whatever is deployed or reloaded meanwhile."""
    own = _read_page(page) if page else None
    with open_hosts(scope, report) as hosts:
        all_or_stop(hosts, _require_site, report)
        all_or_stop(hosts, lambda host: _show(host, own or _default_page(host), report), report)
    report.finish(f"maintenance on {count_hosts(hosts)} -> {scope.command('maintenance.off')}")


def end(scope: Scope, report: Report) -> None:
    with open_hosts(scope, report) as hosts:
        all_or_stop(hosts, lambda host: _hide(host, report), report)
    report.finish(f"no maintenance on {count_hosts(hosts)}")


def _read_page(name: str) -> bytes:
    try:
        return read_file(str(Path(name)), most=MOST_PAGE)
    except OSError as error:
        raise UsageError(f"page '{name}' cannot be read: {error.strerror}", next="name a file of HTML") from None


def _default_page(host: Host) -> bytes:
    return _PAGE.format(name=html.escape(host.settings.name)).encode()


def _path(host: Host) -> str:
    """Where templates/nginx-site.conf.j2 looks for it."""
    return f"{host.settings.deploy_to}/maintenance.html"


def _require_site(host: Host) -> None:
    if host.settings.site is None:
        raise PreflightError(
            "there is no NGINX that could show a page (nginx: false)", where=host.name, next="stop the app instead"
        )
    looks = ["grep", "-rqsF", _path(host), "/etc/nginx"]
    if host.agent.ask("exec", words=looks)["code"] != 0:
        advice = "deploy first; a template of your own needs the lines of percore's"
        raise PreflightError("no site of its NGINX looks for the page", where=host.name, next=advice)


def _show(host: Host, page: bytes, report: Report) -> None:
    file = {"kind": "file", "path": _path(host), "content": base64.b64encode(page).decode(), "mode": "0644"}
    reply: Changed = host.ask("prepare", resources=[file])
    report.host(host.name, "visitors see the page" if reply["changed"] else "unchanged")


def _hide(host: Host, report: Report) -> None:
    reply: Changed = host.ask("prepare", resources=[{"kind": "absent", "path": _path(host)}])
    report.host(host.name, "visitors reach the app" if reply["changed"] else "unchanged")
