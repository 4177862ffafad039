"""percore's own on-host package: its code for hosts with the libraries that it needs, in one archive named by its content.

Hosts have no internet, so everything goes with it. It unpacks to `/opt/percore/<hash>/` and runs there with nothing
but the host's Python: `python3 -I -S /opt/percore/<hash> COMMAND`.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import percore
from percore.common.passwords import for_programs
from percore.deploy.build.source_tree import write_tar
from percore.deploy.connection import bootstrap
from percore.deploy.whole import replace_file, written_whole
from percore.errors import PreflightError
from percore.supervisor.base.systemd_unit import template_path

MAIN = """\
import sys

from percore.supervisor.cli import main

sys.exit(main())
"""
SUPERVISOR_FILES = (".py", ".cjs")
LIBRARIES = ("yaml", "waitress", "prometheus_client")
"""They are Python alone, so those that are installed here serve on every host; psutil is not."""

OTHER_SYSTEMS = ("_psaix", "_psbsd", "_psosx", "_pssunos", "_pswindows")
"""Modules of psutil that Linux never imports; each host would compile them."""


@dataclass(frozen=True)
class Package:
    """The archive for one kind of machine; `id` names its directory on the host. Sizes in bytes."""

    id: str
    sha256: str
    path: Path
    bytes: int
    unpacked_bytes: int


def make_package(project: Path, *, system: str, machine: str) -> Package:
    """The package for hosts of this kind, out of the cache when its files are the same."""
    cache = project / ".percore" / "build" / "package"
    entries = list(_entries(cache, system, machine))
    digest = hashlib.sha256()
    for name, path in sorted(entries):
        digest.update(f"{name}\0".encode() + path.read_bytes())
    package_id = digest.hexdigest()[:16]
    note = cache / f"{package_id}.json"
    if note.is_file():
        known = json.loads(note.read_text())
        if Path(known["path"]).is_file():
            return Package(**{**known, "path": Path(known["path"])})
    return _pack(cache, package_id, entries, note)


def _pack(cache: Path, package_id: str, entries: list[tuple[str, Path]], note: Path) -> Package:
    path = cache / f"{package_id}.tar.gz"
    with written_whole(path) as unfinished:
        with unfinished.open("wb") as out, gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0) as packed:
            unpacked = write_tar(packed, entries)
        sha256 = hashlib.sha256(unfinished.read_bytes()).hexdigest()
    # Compiled modules, written on the host, take about as much room again.
    package = Package(package_id, sha256, path, path.stat().st_size, unpacked * 2)
    replace_file(note, json.dumps({**package.__dict__, "path": str(path)}).encode())
    return package


def _entries(cache: Path, system: str, machine: str) -> Iterator[tuple[str, Path]]:
    main = cache / "__main__.py"
    if not main.is_file() or main.read_text() != MAIN:
        main.parent.mkdir(parents=True, exist_ok=True)
        replace_file(main, MAIN.encode())
    yield "__main__.py", main
    mark = cache / bootstrap.mark()
    mark.touch()
    yield mark.name, mark
    code = Path(percore.__file__).parent
    for name in bootstrap.SHARED:
        for path in bootstrap.modules_of(code / name):
            yield f"percore/{path.relative_to(code)}", path
    for part in ("supervisor", "host"):
        for path in sorted((code / part).rglob("*")):
            if path.suffix in SUPERVISOR_FILES or path.name == f"bindshim-{machine}.so":
                yield f"percore/{path.relative_to(code)}", path
    for path in sorted((code / "web").rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            yield f"percore/{path.relative_to(code)}", path
    yield "percore/supervisor/percore.service.j2", Path(template_path())
    for library in LIBRARIES:
        directory = _module_directory(library)
        for path in sorted(directory.rglob("*.py")):
            yield f"{library}/{path.relative_to(directory)}", path
    psutil = _module_directory("psutil") if _is_here(system, machine) else _fetch_psutil(cache, machine)
    for path in sorted(psutil.iterdir()):
        if path.suffix in (".py", ".so") and path.stem not in OTHER_SYSTEMS:
            yield f"psutil/{path.name}", path


def _module_directory(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise PreflightError(
            f"the Python package '{name}' is missing here",
            next="pip install 'percore[deploy]', or in a checkout: ./run",
        )
    return Path(spec.origin).parent


def _is_here(system: str, machine: str) -> bool:
    return (system, machine) == (platform.system(), platform.machine())


def _fetch_psutil(cache: Path, machine: str) -> Path:
    """psutil for another architecture: its wheel serves every Python from 3.6 on, so one per architecture is enough."""
    directory = cache / f"psutil-{machine}"
    if (directory / "psutil").is_dir():
        return directory / "psutil"
    wheels = cache / f"wheels-{machine}"
    words = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        str(wheels),
    ]
    words += ["--platform", f"manylinux2014_{machine}", "--python-version", "3.9", "psutil"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=for_programs())
    found = sorted(wheels.glob("psutil-*.whl"))
    if done.returncode != 0 or not found:
        lines = done.stderr.strip().splitlines()
        raise PreflightError(
            f"psutil for {machine} could not be fetched: {lines[-1] if lines else 'no wheel'}",
            next=f"put its wheel into {wheels}",
        )
    shutil.rmtree(directory, ignore_errors=True)
    with zipfile.ZipFile(found[-1]) as wheel:
        wheel.extractall(directory, [name for name in wheel.namelist() if name.startswith("psutil/")])
    return directory / "psutil"
