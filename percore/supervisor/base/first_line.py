"""What the first line of a script (`#!`) says: the program that runs it, and whether that is Node. Pure."""

from __future__ import annotations

import os
import re

from percore.common.typing import NamedTuple, Optional

MOST_BYTES = 4096  # of a script, to tell what it starts
NODES = ("node", "nodejs", "bun")
NODE_TOOLS = (
    "npm",
    "npx",
    "pnpm",
    "pnpx",
    "yarn",
    "tsx",
    "ts-node",
)  # programs of Node, whatever their file looks like
_SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "ash")
# `exec node "$@"` is what package managers write into node_modules/.bin.
_STARTS_NODE = rb"""(?mx) (?: ^ | [;&|(] ) \s* (?: exec \s+ | env \s+ )? (?: \w+=\S* \s+ )* ["']? (?: [\w.$@{}/-]* / )?
    (?: %s ) (?: ["'\s] | $ )""" % "|".join((*NODES, *NODE_TOOLS)).encode()


class FirstLine(NamedTuple):
    program: str  # a path, or a name that is looked for in PATH
    arguments: tuple[str, ...]


def read_first_line(head: bytes) -> Optional[FirstLine]:
    """Of a file that begins with `head`; `env` is left out where it only looks for the program."""
    if not head.startswith(b"#!"):
        return None
    words = os.fsdecode(head[2:].partition(b"\n")[0]).split()
    if words and os.path.basename(words[0]) == "env":
        rest = words[1:]
        if rest[:1] in (["-S"], ["--split-string"]):
            rest = rest[1:]
        elif rest and rest[0].startswith("-S"):
            rest = [rest[0][2:], *rest[1:]]
        # With variables or options of its own, env itself is the program.
        words = rest if rest and not rest[0].startswith("-") and "=" not in rest[0] else [words[0], *rest]
    return FirstLine(words[0], tuple(words[1:])) if words else None


def kind_of(program: str) -> str:
    """Its name without a version: python for /usr/bin/python3.12, sh for every shell."""
    name = os.path.basename(program).partition("@")[0]
    name = re.sub(r"[\d.]+$", "", name)
    return "node" if name == "nodejs" else "sh" if name in _SHELLS else name


def starts_node(text: bytes) -> bool:
    """Whether a script that begins so, or a command line, runs Node: by its first line, or as a shell script does."""
    line = read_first_line(text)
    if line is None or kind_of(line.program) == "sh":
        return bool(re.search(_STARTS_NODE, text))
    words = (line.program, *line.arguments) if kind_of(line.program) == "env" else (line.program,)
    return any(kind_of(word) in (*NODES, *NODE_TOOLS) for word in words)
