"""`percore`, where it is installed: the command of a host, and `percore init --env ENV`, which begins a project.

A project's own tasks.py, which invoke needs, does not exist before that.
"""

from __future__ import annotations

import sys


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["init"] and any(word.split("=")[0] == "--env" for word in words):
        sys.exit(begin_project(words[1:]))
    if not sys.platform.startswith("linux"):
        sys.exit("percore: the supervisor needs Linux -> here: percore init --env ENV, then invoke deploy --env ENV")
    from percore.supervisor.cli import main as supervisor

    supervisor()


def begin_project(words: list[str]) -> int:
    try:
        from percore.tasks.init import main as init
    except ModuleNotFoundError as error:
        missing = f"the part of percore that deploys is not installed here ({error.name} is missing)"
        sys.stderr.write(f"percore: {missing} -> pip install 'percore[deploy]'\n")
        return 3
    return init(words)
