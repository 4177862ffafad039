"""What an app may be called: a name that no command could take for something else."""

from __future__ import annotations

import re

# What a process file is called, for commands that take files and names.
PROCESS_FILE = re.compile(r"\.(json|ya?ml)$|\.config\.[cm]?js$")


def why_no_name(name: str) -> str:
    """Why an app cannot be called so; empty where it can. What is known by such a name already is reached by its id."""
    if not name or not name.isprintable():
        return "a text of printable characters"
    if name in ("all", "-"):
        return f"another name: '{name}' means something else in every command"
    if PROCESS_FILE.search(name):
        return "another name: commands would take it for a process file"
    if len(name) > 2 and name.startswith("/") and name.endswith("/"):
        return "another name: commands would take it for a regular expression"
    return ""


def file_name(app_name: str) -> str:
    """An app's name as part of a file name: a slash would leave the directory."""
    return app_name.replace("/", "-")
