"""`invoke init`, and `percore init --env ENV` where there is no tasks.py yet."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from percore.deploy.report import Report, print_error
from percore.errors import PercoreError
from percore.tasks.decorators import operator_task, project_of

if TYPE_CHECKING:
    from percore.deploy.scaffold.init import InitWish

INIT_HELP = {
    "env": "the environment to begin: production, staging, local",
    "app": "the app's directory; otherwise this one",
    "hosts": "its hosts: deployer@web[1:3].example.com,db.example.com",
}


@functools.partial(operator_task, help=INIT_HELP)
def init(context: Context, env: str, app: str = "", hosts: str = "") -> None:
    """Write what is missing to deploy an app from here: tasks.py, an inventory, a process file. Changes no file."""
    from percore.deploy.scaffold.init import InitWish

    project = project_of(context)
    begin(InitWish(env, project, Path(app) if app else project, hosts))


def main(words: Sequence[str]) -> int:
    """Of `percore init --env ENV`, in the directory that becomes the project."""
    from percore.deploy.scaffold.init import InitWish

    parser = argparse.ArgumentParser(prog="percore init", allow_abbrev=False)
    parser.add_argument("--env", required=True, help=INIT_HELP["env"])
    parser.add_argument("--app", default="", help=INIT_HELP["app"])
    parser.add_argument("--hosts", default="", help=INIT_HELP["hosts"])
    given = parser.parse_args(words)
    try:
        begin(InitWish(given.env, Path.cwd(), Path(given.app or "."), given.hosts))
    except PercoreError as error:
        if os.environ.get("PERCORE_DEBUG"):
            raise
        print_error(error)
        return error.exit_code
    return 0


def begin(wish: InitWish) -> None:
    """Hosts are the one thing that cannot be found out; without a terminal they are left to be written."""
    from percore.deploy.scaffold.init import LOCAL
    from percore.deploy.scaffold.init import init as write_files

    if not wish.hosts and wish.env != LOCAL and sys.stdin.isatty() and sys.stdout.isatty():
        given = input(f"hosts of {wish.env}, such as deployer@web[1:3].example.com (Enter: write them later): ")
        wish = dataclasses.replace(wish, hosts=given)
    write_files(wish, Report())
