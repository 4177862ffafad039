"""`percore`, where it is installed: the command of a host, and `percore init --env ENV`, which begins a project.

A project's own tasks.py, which invoke needs, does not exist before that.
"""

from __future__ import annotations

import os
import sys

from percore import __version__


def main() -> None:
    forget_foreign_modules()
    words = sys.argv[1:]
    if words[:1] == ["init"] and any(word.split("=")[0] == "--env" for word in words):
        sys.exit(begin_project(words[1:]))
    if not sys.platform.startswith("linux"):
        if words in (["--version"], ["-v"], ["-V"]):
            sys.stdout.write(f"{__version__}\n")
            sys.exit()
        sys.exit("percore: the supervisor needs Linux -> here: percore init --env ENV, then invoke deploy --env ENV")
    from percore.supervisor.cli import main as supervisor

    supervisor()


def forget_foreign_modules() -> None:
    """PYTHONPATH is for the caller's programs: a module of theirs may have the name of one that is needed here."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    foreign = {os.path.abspath(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place} - {ours}
    sys.path[:] = [place for place in sys.path if os.path.abspath(place) not in foreign]


def begin_project(words: list[str]) -> int:
    try:
        from percore.tasks.init import main as init
    except ModuleNotFoundError as error:
        missing = f"the part of percore that deploys is not installed here ({error.name} is missing)"
        sys.stderr.write(f"percore: {missing} -> pip install 'percore[deploy]'\n")
        return 3
    return init(words)
