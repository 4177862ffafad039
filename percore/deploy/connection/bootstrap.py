"""The agent's program, and how it starts on a host: out of percore's own package where the same one lies there, else streamed.

Nothing has to be installed first, and nothing is written to start it; a host that was deployed to has it compiled.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import percore

START = b"#percore\n"
"""Ends what the loader passes over: a password which sudo did not ask for."""

SHARED = ("__init__.py", "errors.py", "common")
"""What both parts on a host use: modules and a package."""

IS_THERE, IS_MISSING = b"percore agent is here\n", b"percore agent\n"
"""The end of the loader's first line: a login shell may have begun it."""

TOO_OLD = "is too old, 3.9 is needed"

# `p` is the directory of the package and `m` the mark in it that names the agent. The owner of the directory decides what runs
# here: that must be ourselves or root. Even Python 2 gets as far as the check of its version.
LOADER = (
    f"import os,sys,zlib;v=sys.version_info;v<(3,9) and sys.exit('Python %d.%d {TOO_OLD}'%v[:2]);"
    "i=sys.stdin.buffer;p=os.path.realpath(sys.argv[1]);"
    "h=os.path.isfile(p+'/'+sys.argv[2]) and os.stat(p).st_uid in (0,os.geteuid());"
    "sys.stdout.write('percore agent'+h*' is here'+chr(10));sys.stdout.flush();"
    "next(l for l in i if l==b'#percore\\n');"
    "sys.path[:0]=h*[p];"
    "exec('from percore.host.agent import main;main()' if h else zlib.decompress(i.read(int(i.readline()))).decode())"
)
"""All that stands on the host's command line: say whether the agent is here, then run it, or read the program and run that."""

_BOOT = """\
import importlib.abc, importlib.util, sys

SOURCES = {sources!r}


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        for module in (name, name + '.__init__'):
            if module in SOURCES:
                return importlib.util.spec_from_loader(name, self, is_package=module != name)

    def exec_module(self, module):
        name = module.__name__ if module.__name__ in SOURCES else module.__name__ + '.__init__'
        exec(compile(SOURCES[name], '<agent ' + name + '>', 'exec'), module.__dict__)


sys.meta_path.insert(0, Finder())
from percore.host.agent import main
main()
"""


def loader_words(python: Sequence[str], package_path: str) -> list[str]:
    """The command that starts the agent on a host whose packages lie in `package_path`."""
    return [*python, "-I", "-S", "-c", LOADER, f"{package_path}/current", mark()]


@cache
def mark() -> str:
    """The name of the file that names, in a package, the agent in it."""
    digest = hashlib.sha256()
    for name, source in _sources().items():
        digest.update(f"{name}\0{source}\0".encode())
    return f"agent-{digest.hexdigest()[:16]}"


@cache
def packed() -> bytes:
    """The agent's whole source with a finder for it, compressed, behind its length."""
    program = zlib.compress(_BOOT.format(sources=_sources()).encode())
    return f"{len(program)}\n".encode() + program


def modules_of(path: Path) -> list[Path]:
    """The module itself, or all of the package, sub-packages included."""
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


@cache
def _sources() -> dict[str, str]:
    """By the modules' names."""
    code = Path(percore.__file__).parent
    paths = [path for name in (*SHARED, "host") for path in modules_of(code / name)]
    names = [".".join(path.relative_to(code.parent).with_suffix("").parts) for path in paths]
    return {name: path.read_text() for name, path in zip(names, paths, strict=True)}
