"""Sites of NGINX."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Optional

from percore.errors import RolloutError
from percore.host.facts import find_program
from percore.host.files import replace_link, write_file
from percore.host.messages import Spec
from percore.host.paths import remove
from percore.host.resources.command import run
from percore.host.resources.files import Absent, File, Link, former_of_path
from percore.host.resources.resource import Resource


class Site(Resource):
    """An NGINX site: `path` of its file, `link` that enables it, content as in a file. A change reloads NGINX."""

    def _file(self) -> File:
        return File({**self.spec, "kind": "file"}, self.contents)

    def _link(self) -> Link:
        return Link({"kind": "link", "path": self.spec["link"], "to": self.path}, self.contents)

    def difference(self) -> Optional[str]:
        return self._file().difference() or self._link().difference()

    def verify(self, coming: Sequence[str] = ()) -> None:
        """`nginx -t` on a copy of the whole configuration with this site in its place."""
        with tempfile.TemporaryDirectory(prefix="percore-nginx-") as directory:
            copy = os.path.join(directory, "nginx")
            shutil.copytree("/etc/nginx", copy, symlinks=True)
            target = os.path.join(copy, os.path.relpath(self.path, "/etc/nginx"))
            link = os.path.join(copy, os.path.relpath(self.spec["link"], "/etc/nginx"))
            for path in (target, link):
                _make_own(copy, os.path.dirname(path))
            _redirect_includes(copy)
            for absent in self.spec.get("without", []):
                remove(os.path.join(copy, os.path.relpath(absent, "/etc/nginx")))
            write_file(target, self._file().content())
            replace_link(link, target)
            try:
                run([find_program("nginx") or "nginx", "-t", "-q", "-c", os.path.join(copy, "nginx.conf")])
            except RolloutError as error:
                text = error.detail.replace(copy, "/etc/nginx")
                faults = [line for line in text.splitlines() if "[emerg]" in line] or text.splitlines() or [error.what]
                raise RolloutError(f"NGINX refuses the site: {faults[0]}", detail=text) from None

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
        run(["systemctl", "reload-or-restart", "nginx.service"])


def _redirect_includes(copy: str) -> None:
    """Make a copy of /etc/nginx refer to itself, not to the original."""
    for parent, _, names in os.walk(copy):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.islink(path):
                to = os.readlink(path)
                if to.startswith("/etc/nginx/"):
                    replace_link(path, copy + to[len("/etc/nginx") :])
                continue
            with open(path, "rb") as source:
                text = source.read()
            if b"/etc/nginx/" in text:
                write_file(path, text.replace(b"/etc/nginx/", copy.encode() + b"/"))


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
