"""What a host should have: each resource compares, then changes, and can say what would restore the present state.

A resource is a JSON object with a `kind`. `make` gives it a body with four questions:

- `difference()`: what would change, as a short text, or None when all is right already;
- `verify()`: is the wanted thing valid? Asked on a copy, before anything is switched;
- `former()`: the resources that bring back what is here now; asked before `apply`;
- `apply()`: make it so. Files are replaced by rename, so a reader sees the old one or the new one.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import grp
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

from percore.errors import PercoreError, RolloutError
from percore.host.facts import find_program
from percore.host.paths import (
    link_target,
    make_parents,
    open_directory,
    open_for_reading,
    parent_of,
    remove,
    stat_of,
)

Spec = dict[str, Any]
Contents = Callable[[str], bytes]
"""Gives the bytes of a SHA-256."""

COMMAND_SECONDS = 120.0
PACKAGE_SECONDS = 900.0


def run(argv: list[str], *, seconds: float = COMMAND_SECONDS, env: Optional[Mapping[str, str]] = None) -> str:
    """Output of a command that must succeed; otherwise one line with its last words."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            env=env,
            check=False,
        )
    except FileNotFoundError:
        raise RolloutError(f"command '{argv[0]}' does not exist here") from None
    except subprocess.TimeoutExpired:
        raise RolloutError(f"'{' '.join(argv)}' did not end within {seconds:g} s") from None
    output = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        lines = [line for line in output.splitlines() if line.strip()]
        last = lines[-1].strip() if lines else "no output"
        raise RolloutError(
            f"'{' '.join(argv)}' failed with exit code {done.returncode}: {last}",
            detail="\n".join(lines[-20:]),
        )
    return output


def succeeds(argv: list[str]) -> bool:
    try:
        return (
            subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS, check=False
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def is_active(unit: str) -> bool:
    return succeeds(["systemctl", "is-active", "--quiet", unit])


def journal_of(unit: str) -> str:
    """Its last words, for an error."""
    argv = ["journalctl", "-u", unit, "-n", "20", "--no-pager", "-o", "cat"]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


def write_file(
    path: str, content: bytes, *, mode: int = 0o644, owner: Optional[str] = None, group: Optional[str] = None
) -> None:
    """Write beside, sync, then rename over: whoever reads sees the old text or the new one."""
    with parent_of(path) as (directory, name):
        temporary = f".{name[:200]}.{os.urandom(6).hex()}"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
            with os.fdopen(fd, "wb") as out:
                out.write(content)
                out.flush()
                if owner or group:
                    os.fchown(fd, _uid(owner), _gid(group))
                os.fchmod(fd, mode)
                os.fsync(fd)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as error:
            _unlink(temporary, directory)
            raise OSError(error.errno, error.strerror, path) from None  # the temporary name would tell nobody anything
        except BaseException:
            _unlink(temporary, directory)
            raise


def read_file(path: str) -> bytes:
    with open_for_reading(path) as source:
        return source.read()


def replace_link(path: str, to: str) -> None:
    """Point a symbolic link elsewhere in one step: there is no moment without it."""
    with parent_of(path) as (directory, name):
        temporary = f"{name}.{os.getpid()}.new"
        _unlink(temporary, directory)
        os.symlink(to, temporary, dir_fd=directory)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def _unlink(name: str, directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


class Resource:
    """Answers for a resource that has nothing to verify and nothing to restore."""

    def __init__(self, spec: Spec, contents: Contents) -> None:
        self.spec = spec
        self.contents = contents

    @property
    def path(self) -> str:
        return str(self.spec["path"])

    def difference(self) -> Optional[str]:
        raise NotImplementedError

    def change(self) -> Optional[str]:
        """The difference as it may be shown."""
        difference = self.difference()
        return difference and shown(self.spec, difference)

    def verify(self, coming: Sequence[str] = ()) -> None:
        """Raises RolloutError for an invalid wish. `coming` are programs that will be there, and are not yet."""

    def former(self) -> list[Spec]:
        return []

    def apply(self) -> None:
        raise NotImplementedError


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
        with tempfile.TemporaryDirectory(prefix="percore-verify-") as folder:
            copy = os.path.join(folder, os.path.basename(self.path))
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


class UnitFile(File):
    """A file that systemd reads: it is told of every change."""

    def former(self) -> list[Spec]:
        return [*super().former(), {"kind": "systemd-reload"}]

    def apply(self) -> None:
        super().apply()
        SystemdReload({}, self.contents).apply()


class SystemdReload(Resource):
    """Only in an undo list: systemd reads its files again."""

    def difference(self) -> Optional[str]:
        return "reload systemd"

    def apply(self) -> None:
        run(["systemctl", "daemon-reload"])


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


class AbsentUnitFile(Absent):
    """A file that systemd read: it is told that it is gone."""

    def former(self) -> list[Spec]:
        return [*super().former(), {"kind": "systemd-reload"}]

    def apply(self) -> None:
        super().apply()
        SystemdReload({}, self.contents).apply()


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
        directory = open_directory(self.path, make=True)
        try:
            os.fchmod(directory, self.mode())
            if self.spec.get("owner") or self.spec.get("group"):
                os.fchown(directory, _uid(self.spec.get("owner")), _gid(self.spec.get("group")))
        finally:
            os.close(directory)

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


class User(Resource):
    """`name`, `home`, `shell`, `system`. Never removed again: files of theirs may remain."""

    def difference(self) -> Optional[str]:
        try:
            pwd.getpwnam(self.spec["name"])
        except KeyError:
            return f"create user {self.spec['name']}"
        return None

    def apply(self) -> None:
        argv = [
            "useradd",
            "--user-group",
            "--no-create-home",
            "--shell",
            str(self.spec.get("shell", "/usr/sbin/nologin")),
        ]
        if self.spec.get("system", True):
            argv.append("--system")
        if self.spec.get("home"):
            argv += ["--home-dir", str(self.spec["home"])]
        argv[0] = find_program("useradd") or "useradd"
        run([*argv, str(self.spec["name"])])


class Packages(Resource):
    """`packages` of Debian, each a `name` and perhaps a `program`: where that is there already, any package will do.

    The missing ones are installed together; none is ever removed.
    """

    def missing(self) -> list[str]:
        return [entry["name"] for entry in self.spec["packages"] if not _is_there(entry)]

    def difference(self) -> Optional[str]:
        missing = self.missing()
        return f"install {' '.join(missing)}" if missing else None

    def apply(self) -> None:
        missing = self.missing()
        if find_program("apt-get") is None:
            raise RolloutError(
                f"packages are missing and there is no apt-get: {' '.join(missing)}", next="install them by hand"
            )
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        try:
            run(
                ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing],
                seconds=PACKAGE_SECONDS,
                env=env,
            )
        except RolloutError:
            # The package lists may be old or empty; once they are fresh the first error no longer counts.
            run(["apt-get", "update", "-q"], seconds=PACKAGE_SECONDS, env=env)
            run(
                ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing],
                seconds=PACKAGE_SECONDS,
                env=env,
            )


class Unit(Resource):
    """`name` of a systemd unit with `active` and `enabled`, each true, false, or left out (then not touched)."""

    def is_active(self) -> bool:
        return is_active(self.spec["name"])

    def is_enabled(self) -> bool:
        return succeeds(["systemctl", "is-enabled", "--quiet", self.spec["name"]])

    def difference(self) -> Optional[str]:
        parts = []
        active, enabled = self.spec.get("active"), self.spec.get("enabled")
        if active is not None and active != self.is_active():
            parts.append("start" if active else "stop")
        if enabled is not None and enabled != self.is_enabled():
            parts.append("enable" if enabled else "disable")
        return f"{' and '.join(parts)} {self.spec['name']}" if parts else None

    def former(self) -> list[Spec]:
        spec = dict(self.spec)
        if "active" in spec:
            spec["active"] = self.is_active()
        if "enabled" in spec:
            spec["enabled"] = self.is_enabled()
        return [spec]

    def apply(self) -> None:
        name = self.spec["name"]
        if self.spec.get("active") is False and self.is_active():
            run(["systemctl", "stop", name])
        enabled = self.spec.get("enabled")
        if enabled is not None and enabled != self.is_enabled():
            run(["systemctl", "enable" if enabled else "disable", "--quiet", name])
        if self.spec.get("active") is True and not self.is_active():
            self._start(name)

    def _start(self, name: str) -> None:
        try:
            run(["systemctl", "start", name])
        except RolloutError as error:
            raise RolloutError(error.what, detail=journal_of(name)) from None


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
        with tempfile.TemporaryDirectory(prefix="percore-nginx-") as folder:
            copy = os.path.join(folder, "nginx")
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


class NginxReload(Resource):
    """Only in an undo list: NGINX reads its files again."""

    def difference(self) -> Optional[str]:
        return "reload NGINX"

    def apply(self) -> None:
        run([find_program("nginx") or "nginx", "-t", "-q"])
        run(["systemctl", "reload-or-restart", "nginx.service"])


class Command(Resource):
    """`run` (a list of words); skipped when `creates` exists or the command `unless` succeeds."""

    def difference(self) -> Optional[str]:
        if self.spec.get("creates") and os.path.lexists(self.spec["creates"]):
            return None
        if self.spec.get("unless") and succeeds(list(self.spec["unless"])):
            return None
        return f"run {' '.join(self.spec['run'])}"

    def apply(self) -> None:
        run(list(self.spec["run"]), seconds=float(self.spec.get("seconds", COMMAND_SECONDS)))


KINDS: dict[str, type[Resource]] = {
    "file": File,
    "unit-file": UnitFile,
    "systemd-reload": SystemdReload,
    "absent": Absent,
    "absent-unit-file": AbsentUnitFile,
    "directory": Directory,
    "link": Link,
    "user": User,
    "packages": Packages,
    "unit": Unit,
    "site": Site,
    "nginx-reload": NginxReload,
    "command": Command,
}


def shown(spec: Spec, text: str) -> str:
    """`shown` of a spec says what is written instead of the parts of it that hold secrets."""
    for part, instead in spec.get("shown", {}).items():
        text = text.replace(part, instead)
    return text


def no_contents(sha256: str) -> bytes:
    raise PercoreError(f"content {sha256[:12]} was not sent")


def make(spec: Spec, contents: Contents = no_contents) -> Resource:
    return KINDS[spec["kind"]](spec, contents)


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


def _redirect_includes(folder: str) -> None:
    """Make a copy of /etc/nginx refer to itself, not to the original."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.islink(path):
                to = os.readlink(path)
                if to.startswith("/etc/nginx/"):
                    replace_link(path, folder + to[len("/etc/nginx") :])
                continue
            with open(path, "rb") as source:
                text = source.read()
            if b"/etc/nginx/" in text:
                write_file(path, text.replace(b"/etc/nginx/", folder.encode() + b"/"))


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


def _rights_of(found: os.stat_result) -> Spec:
    return {"mode": f"{stat.S_IMODE(found.st_mode):04o}", "owner": str(found.st_uid), "group": str(found.st_gid)}


def _rights_difference(path: str, found: os.stat_result, mode: int, spec: Spec) -> Optional[str]:
    parts = []
    if stat.S_IMODE(found.st_mode) != mode:
        parts.append(f"change mode of {path} to {mode:04o}")
    owner, group = spec.get("owner"), spec.get("group")
    if owner and not _same_id(owner, found.st_uid, _uid):
        parts.append(f"change owner of {path} to {owner}")
    if group and not _same_id(group, found.st_gid, _gid):
        parts.append(f"change group of {path} to {group}")
    return "; ".join(parts) or None


def _same_id(name: str, number: int, find: Callable[[Optional[str]], int]) -> bool:
    try:
        return find(name) == number
    except RolloutError:
        return False  # the user is still to be created


def _uid(owner: Optional[str]) -> int:
    if owner is None:
        return -1
    if owner.isdigit():
        return int(owner)
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError:
        raise RolloutError(f"user '{owner}' does not exist here") from None


def _gid(group: Optional[str]) -> int:
    if group is None:
        return -1
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise RolloutError(f"group '{group}' does not exist here") from None


def _is_there(package: Mapping[str, str]) -> bool:
    name, program = package["name"], package.get("program")
    if program and find_program(program):
        return True
    try:
        reply = subprocess.run(["dpkg-query", "-W", "-f=${Status}", name], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return False
    return "install ok installed" in reply.stdout


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
