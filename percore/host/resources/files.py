"""Files, directories and links, or their absence."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Sequence
from typing import Callable, Optional

from percore.errors import RolloutError
from percore.host.files import gid_of, replace_link, set_rights, uid_of, write_file
from percore.host.messages import Spec
from percore.host.paths import link_target, make_parents, open_directory, open_for_reading, parent_of, remove, stat_of
from percore.host.resources.command import run
from percore.host.resources.resource import Resource


class File(Resource):
    """`path`, `sha256` of the content (or `content` itself, base64), `mode`, `owner`, `group`, `validate` with %s."""

    def content(self) -> bytes:
        if "content" in self.spec:
            return base64.b64decode(self.spec["content"])
        return self.contents(self.spec["sha256"])

    def wanted_hash(self) -> str:
        return str(self.spec["sha256"]) if "sha256" in self.spec else hashlib.sha256(self.content()).hexdigest()

    def mode(self) -> int:
        return int(str(self.spec.get("mode", "0644")), 8)

    def difference(self) -> Optional[str]:
        try:
            found = stat_of(self.path)
        except FileNotFoundError:
            return f"create {self.path}"
        if not stat.S_ISREG(found.st_mode):
            return f"replace {self.path}"
        content = f"change {self.path}" if _hash_of(self.path) != self.wanted_hash() else None
        rights = _rights_difference(self.path, found, self.mode(), self.spec)
        return "; ".join(filter(None, (content, rights))) or None

    def verify(self, coming: Sequence[str] = ()) -> None:
        command = self.spec.get("validate")
        if not command:
            return
        content = self.content()
        for program in coming:
            content = content.replace(program.encode(), b"/bin/true")
        with tempfile.TemporaryDirectory(prefix="percore-verify-") as directory:
            copy = os.path.join(directory, os.path.basename(self.path))
            write_file(copy, content, mode=self.mode())
            try:
                run([word.replace("%s", copy) for word in command])
            except RolloutError as error:
                what = error.what.replace(copy, self.path)
                raise RolloutError(
                    f"{self.path} is not valid: {what}", detail=error.detail.replace(copy, self.path)
                ) from None

    def former(self) -> list[Spec]:
        return former_of_path(self.path)

    def apply(self) -> None:
        make_parents(self.path)
        write_file(
            self.path, self.content(), mode=self.mode(), owner=self.spec.get("owner"), group=self.spec.get("group")
        )


class Absent(Resource):
    """`path`: no file or link there. A directory goes only when it is empty."""

    def difference(self) -> Optional[str]:
        return f"remove {self.path}" if _mode_of(self.path) else None

    def former(self) -> list[Spec]:
        return former_of_path(self.path)

    def apply(self) -> None:
        if stat.S_ISDIR(_mode_of(self.path)):
            with parent_of(self.path) as (directory, name):
                _rmdir(name, directory)
        else:
            remove(self.path)


class Directory(Resource):
    """`path`, `mode`, `owner`, `group`. Its parents are made with mode 0755."""

    def mode(self) -> int:
        return int(str(self.spec.get("mode", "0755")), 8)

    def difference(self) -> Optional[str]:
        try:
            found = self._found()
        except FileNotFoundError:
            return f"create {self.path}/"
        except NotADirectoryError:
            raise RolloutError(f"{self.path} should be a directory and is a file", next="move it away") from None
        return _rights_difference(self.path, found, self.mode(), self.spec)

    def former(self) -> list[Spec]:
        try:
            found = self._found()
        except (FileNotFoundError, NotADirectoryError):
            return [{"kind": "absent", "path": self.path}]
        return [{"kind": "directory", "path": self.path, **_rights_of(found)}]

    def apply(self) -> None:
        set_rights(self.path, self.mode(), self.spec.get("owner"), self.spec.get("group"))

    def _found(self) -> os.stat_result:
        directory = open_directory(self.path)
        try:
            return os.fstat(directory)
        finally:
            os.close(directory)


class Link(Resource):
    """`path` is a symbolic link to `to`."""

    def difference(self) -> Optional[str]:
        if link_target(self.path) == self.spec["to"]:
            return None
        return f"link {self.path} -> {self.spec['to']}"

    def former(self) -> list[Spec]:
        return former_of_path(self.path)

    def apply(self) -> None:
        make_parents(self.path)
        if stat.S_ISDIR(_mode_of(self.path)):
            raise RolloutError(f"{self.path} should be a link and is a directory", next="move it away")
        replace_link(self.path, str(self.spec["to"]))


def former_of_path(path: str) -> list[Spec]:
    """The resources that bring back the file or link that is at `path` now, or its absence."""
    target = link_target(path)
    if target is not None:
        return [{"kind": "link", "path": path, "to": target}]
    try:
        with open_for_reading(path) as source:
            content = base64.b64encode(source.read()).decode()
            rights = _rights_of(os.fstat(source.fileno()))
    except FileNotFoundError:
        return [{"kind": "absent", "path": path}]
    return [{"kind": "file", "path": path, "content": content, **rights}]


def _rights_of(found: os.stat_result) -> Spec:
    return {"mode": f"{stat.S_IMODE(found.st_mode):04o}", "owner": str(found.st_uid), "group": str(found.st_gid)}


def _rights_difference(path: str, found: os.stat_result, mode: int, spec: Spec) -> Optional[str]:
    parts = []
    if stat.S_IMODE(found.st_mode) != mode:
        parts.append(f"change mode of {path} to {mode:04o}")
    owner, group = spec.get("owner"), spec.get("group")
    if owner and not _same_id(owner, found.st_uid, uid_of):
        parts.append(f"change owner of {path} to {owner}")
    if group and not _same_id(group, found.st_gid, gid_of):
        parts.append(f"change group of {path} to {group}")
    return "; ".join(parts) or None


def _same_id(name: str, number: int, find: Callable[[Optional[str]], int]) -> bool:
    try:
        return find(name) == number
    except RolloutError:
        return False  # the user is still to be created


def _hash_of(path: str) -> str:
    digest = hashlib.sha256()
    with open_for_reading(path) as source:
        for piece in iter(lambda: source.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def _mode_of(path: str) -> int:
    """Of what stands there itself; 0 where nothing does."""
    try:
        return stat_of(path).st_mode
    except FileNotFoundError:
        return 0


def _rmdir(name: str, directory: int) -> None:
    """An empty one; another stays."""
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
