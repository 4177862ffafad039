"""`interpreter: node@18`: the Node or Python of one version, among those that version managers have put on this host."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping

from percore.errors import PercoreError
from percore.supervisor.base.user_files import may_execute


def find_version(interpreter: str, env: Mapping[str, str]) -> str:
    """The path of the newest program that fits, such as node 18.20.4 for `node@18`. Raises PercoreError when there is none."""
    name, _, version = interpreter.partition("@")
    wanted = version.lstrip("v").split(".")
    best: tuple[tuple[int, ...], str] = ((), "")
    looked: list[str] = []
    for pattern in _patterns("node" if name == "nodejs" else name, env):
        looked.append(pattern.partition("/*")[0])
        for path in glob.glob(pattern):
            numbers = _version_in(path, pattern)
            if numbers and [str(number) for number in numbers[: len(wanted)]] == wanted and may_execute(path):
                best = max(best, (numbers, path))
    found = best[1] or _in_path(name, wanted, env.get("PATH", os.defpath))
    if not found:
        raise PercoreError(
            f"no {name} {version} is on this host: not in PATH as '{name}{version}', nor below {', '.join(looked)}",
            next=f"install {name} {version}, or change 'interpreter'",
        )
    return found


def _patterns(name: str, env: Mapping[str, str]) -> Iterator[str]:
    """Where nvm, n, fnm, volta, asdf, mise, pyenv and uv put their versions; the star is the version."""
    home = env.get("HOME", os.path.expanduser("~"))
    share = env.get("XDG_DATA_HOME", f"{home}/.local/share")
    if name == "node":
        yield f"{env.get('NVM_DIR', f'{home}/.nvm')}/versions/node/*/bin/node"
        yield f"{env.get('N_PREFIX', '/usr/local')}/n/versions/node/*/bin/node"
        yield f"{env.get('FNM_DIR', f'{share}/fnm')}/node-versions/*/installation/bin/node"
        yield f"{env.get('VOLTA_HOME', f'{home}/.volta')}/tools/image/node/*/bin/node"
        yield f"{env.get('ASDF_DATA_DIR', f'{home}/.asdf')}/installs/nodejs/*/bin/node"
        yield f"{share}/mise/installs/node/*/bin/node"
    elif name.startswith("python"):
        yield f"{env.get('PYENV_ROOT', f'{home}/.pyenv')}/versions/*/bin/python3"
        yield f"{env.get('ASDF_DATA_DIR', f'{home}/.asdf')}/installs/python/*/bin/python3"
        yield f"{share}/uv/python/cpython-*/bin/python3"
        yield f"{share}/mise/installs/python/*/bin/python3"
    else:
        yield f"{env.get('ASDF_DATA_DIR', f'{home}/.asdf')}/installs/{name}/*/bin/{name}"
        yield f"{share}/mise/installs/{name}/*/bin/{name}"


def _version_in(path: str, pattern: str) -> tuple[int, ...]:
    """(18, 20, 4) from the part of the path that the star stands for; empty for what is no release."""
    before, after = pattern.split("*")
    text = path[len(before) : len(path) - len(after)].lstrip("v").partition("-")[0]
    numbers = text.split(".")
    return tuple(map(int, numbers)) if all(number.isdigit() for number in numbers) else ()


def _in_path(name: str, wanted: list[str], path: str) -> str:
    """As distributions name them: python3.12, node18."""
    stem = "python" if name.startswith("python") else name
    for directory in path.split(os.pathsep):
        place = os.path.join(directory, f"{stem}{'.'.join(wanted)}")
        if may_execute(place):
            return place
    return ""
