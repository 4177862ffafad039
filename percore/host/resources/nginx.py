"""Sites of NGINX."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from typing import Optional

from percore.common.procfs import boot_time, children_of, command_line_of, start_time_of
from percore.errors import RolloutError
from percore.host.facts import find_program
from percore.host.files import replace_link, write_file
from percore.host.messages import Spec
from percore.host.paths import remove
from percore.host.resources.certificates import require_valid
from percore.host.resources.command import run
from percore.host.resources.files import Absent, File, Link, former_of_path
from percore.host.resources.nginx_faults import Copy, certificates_of, refusal, require_served
from percore.host.resources.resource import Resource

ROOT = "/etc/nginx"
TAKE_OVER_SECONDS = 20.0
_SLACK_SECONDS = 2.0  # a file is written just before the workers that read it start


class Site(Resource):
    """An NGINX site: `path` of its file, `link` that enables it, content as in a file. A change reloads NGINX."""

    def _file(self) -> File:
        return File({**self.spec, "kind": "file"}, self.contents)

    def _link(self) -> Link:
        return Link({"kind": "link", "path": self.spec["link"], "to": self.path}, self.contents)

    def difference(self) -> Optional[str]:
        return self._file().difference() or self._link().difference() or self._unread()

    def _unread(self) -> Optional[str]:
        """A person put the file back as it was, and NGINX still serves what they tried."""
        unread = latest_unread(workers_if_any(), [self.path, str(self.spec["link"])])
        return f"reload NGINX, which runs with what it read before {unread[1]} was changed" if unread else None

    def verify(self, coming: Sequence[str] = ()) -> None:
        """NGINX is asked about a copy of its whole configuration with this site in its place."""
        with tempfile.TemporaryDirectory(prefix="percore-nginx-") as directory:
            copy = self._copy(os.path.join(directory, "nginx"))
            try:
                output = run([find_program("nginx") or "nginx", "-T", "-c", os.path.join(copy.root, "nginx.conf")])
            except RolloutError as error:
                raise refusal(copy, error.detail) from None
            content = self._file().content().decode(errors="replace")
            require_served(copy, output, content)
        for path in certificates_of(content):
            require_valid(path, now=time.time())

    def _copy(self, root: str) -> Copy:
        shutil.copytree(ROOT, root, symlinks=True)
        path = os.path.join(root, os.path.relpath(self.path, ROOT))
        link = os.path.join(root, os.path.relpath(self.spec["link"], ROOT))
        for each in (path, link):
            _make_own(root, os.path.dirname(each))
        _redirect_includes(root)
        for absent in self.spec.get("without", []):
            remove(os.path.join(root, os.path.relpath(absent, ROOT)))
        write_file(path, self._file().content())
        replace_link(link, path)
        return Copy(root, link, path)

    def former(self) -> list[Spec]:
        specs = former_of_path(self.path) + former_of_path(str(self.spec["link"]))
        return [*specs, {"kind": "nginx-reload"}]

    def apply(self) -> None:
        self._file().apply()
        self._link().apply()
        NginxReload({}, self.contents).apply()


class AbsentSite(Absent):
    """The link `path` that enables a site; what follows lets NGINX read its files again."""

    def former(self) -> list[Spec]:
        return [*super().former(), {"kind": "nginx-reload"}]


class NginxReload(Resource):
    """Only in an undo list: NGINX reads its files again."""

    def difference(self) -> Optional[str]:
        return "reload NGINX"

    def apply(self) -> None:
        run([find_program("nginx") or "nginx", "-t", "-q"])
        before = serving_workers()
        run(["systemctl", "reload-or-restart", "nginx.service"])
        deadline = time.monotonic() + TAKE_OVER_SECONDS
        while before & serving_workers():
            if time.monotonic() >= deadline:
                raise RolloutError(
                    f"NGINX did not take over its configuration within {TAKE_OVER_SECONDS:.0f} s",
                    next="look there for the reason: journalctl -u nginx, /var/log/nginx/error.log",
                )
            time.sleep(0.02)


def serving_workers() -> set[tuple[int, int]]:
    """Those of NGINX that take requests, by pid and start: a reload returns before the earlier ones end."""
    main = run(["systemctl", "show", "--property=MainPID", "nginx.service"]).strip().partition("=")[2]
    pids = children_of(int(main)) if main.isdecimal() and main != "0" else []
    lines = {pid: command_line_of(pid) for pid in pids}  # empty once it ended
    return {(pid, start_time_of(pid)) for pid, line in lines.items() if line and b"shutting down" not in line}


def workers_if_any() -> set[tuple[int, int]]:
    """Also where nobody can be asked."""
    with contextlib.suppress(RolloutError):
        return serving_workers()
    return set()


def latest_unread(workers: set[tuple[int, int]], paths: Iterable[str]) -> Optional[tuple[float, str]]:
    """When, and which of these files was changed last, if that was after the workers began."""
    began = min((start / os.sysconf("SC_CLK_TCK") for _, start in workers), default=float("inf")) + boot_time()
    return max(((at, path) for path in paths if (at := _changed(path)) > began + _SLACK_SECONDS), default=None)


def _changed(path: str) -> float:
    """The file, or the link that leads to it. A file that `cp -p` or `mv` brought back has its old mtime."""
    return max(os.stat(path).st_ctime, os.lstat(path).st_ctime) if os.path.exists(path) else 0.0


def _redirect_includes(copy: str) -> None:
    """Make a copy of /etc/nginx refer to itself, not to the original."""
    for parent, _, names in os.walk(copy):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.islink(path):
                to = os.readlink(path)
                if to.startswith(f"{ROOT}/"):
                    replace_link(path, copy + to[len(ROOT) :])
                continue
            with open(path, "rb") as source:
                text = source.read()
            if (own := f"{ROOT}/".encode()) in text:
                write_file(path, text.replace(own, copy.encode() + b"/"))


def _make_own(root: str, directory: str) -> None:
    """A directory below `root` that leads nowhere else: in the place of a link stands a copy of what it leads to."""
    path = root
    for name in os.path.relpath(directory, root).split("/"):
        path = os.path.join(path, name)
        if os.path.islink(path):
            original = os.path.realpath(path)
            os.unlink(path)
            if os.path.isdir(original):
                shutil.copytree(original, path, symlinks=True)
        os.makedirs(path, exist_ok=True)
