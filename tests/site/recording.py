"""The picture of the README: a terminal in which somebody deploys to three hosts. Nothing of it is written by hand.

`./run docs.recording` boots three lab hosts, deploys a small app, types COMMANDS into a real terminal, and draws what is
shown there as docs/pictures/deploy.svg.
"""

from __future__ import annotations

import functools
import html
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from percore.lab import Lab
from tests.hosts.test_tutorial import GIT, make_programs
from tests.installed import environment
from tests.site.blocks import ROOT
from tests.terminal import Terminal

PICTURE = ROOT / "docs" / "pictures" / "deploy.svg"
COLUMNS, LINES = 118, 44
MOST_SECONDS = 120.0
PROMPT = "~/shop $ "
COMMANDS = (
    "sed -i 's/Hello/Good morning/' server.js && invoke deploy --env production",
    "echo 'process.exit(1)' >> server.js && invoke deploy --env production",
    "curl http://web2.example.com/",
)
SERVER = """\
const { createServer } = require('http');
createServer((request, response) => response.end('Hello\\n')).listen(process.env.PORT);
"""
_COLOURS = {"red": "#ff7b72", "green": "#56d364", "brown": "#e3b341", "yellow": "#e3b341", "blue": "#79c0ff",
            "magenta": "#d2a8ff", "cyan": "#76e3ea", "black": "#8b949e", "default": "#e6edf3"}  # fmt: skip
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_BLANK = "\N{NO-BREAK SPACE}"  # browsers draw no two others side by side
_WIDTH, _HEIGHT, _MARGIN = 7.83, 18, 16


def record() -> Path:
    """Where the picture is."""
    with tempfile.TemporaryDirectory(prefix="percore-recording-") as name:
        directory = Path(name)
        lab = Lab.up(3, name=f"recording{os.getpid()}", project=directory / "lab")
        try:
            text = _type_all(_make_project(lab, directory), directory / "shop")
        finally:
            lab.down()
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(text)
    return PICTURE


def _make_project(lab: Lab, directory: Path) -> dict[str, str]:
    """The variables of the shell in which it is deployed; it is deployed for the first time."""
    shop = directory / "shop"
    shop.mkdir()
    (shop / "package.json").write_text('{"name": "shop", "private": true, "scripts": {"start": "node server.js"}}\n')
    (shop / "server.js").write_text(SERVER)
    env = {**environment(make_programs(lab, directory / "programs")), **GIT}
    env |= {"PATH": f"{env['PATH']}:{Path(sys.executable).parent}", "HOME": str(directory), "PS1": PROMPT}
    for line in (
        "npm install --silent && git init -q && echo node_modules/ > .gitignore && git add . && git commit -qm Shop",
        "percore init --env production --hosts 'root@web[1:3].example.com'",
        "sed -i s/become:.true/become:.false/ inventories/production/group_vars/all.yml",
        "invoke deploy --env production",
        "git add . && git commit -qm Deploy",
    ):
        subprocess.run(["bash", "-c", line], cwd=shop, env=env, check=True, stdin=subprocess.DEVNULL, timeout=300)
    return env


def _type_all(env: dict[str, str], directory: Path) -> str:
    shell = ["bash", "--noprofile", "--norc"]
    with Terminal(shell, env=env, cwd=str(directory), columns=COLUMNS, lines=LINES) as terminal:
        for command in COMMANDS:
            _wait(terminal, lambda last: last == PROMPT.strip())
            terminal.type(command)
            begin = command[:40]
            _wait(terminal, functools.partial(_has, begin))
            terminal.type("\n")
            _wait(terminal, functools.partial(_has_not, begin))
        _wait(terminal, lambda last: last == PROMPT.strip())
        return draw(terminal)


def _wait(terminal: Terminal, condition: Callable[[str], bool]) -> None:
    """For what is true of the last line that is not empty."""
    end = time.monotonic() + MOST_SECONDS
    while not condition(_last_line(terminal.read())):
        if time.monotonic() > end:
            raise AssertionError(terminal.read())
        time.sleep(0.1)


def _last_line(screen: str) -> str:
    return next((line.rstrip() for line in reversed(screen.splitlines()) if line.strip()), "")


def _has(words: str, line: str) -> bool:
    return words in line


def _has_not(words: str, line: str) -> bool:
    return words not in line


def draw(terminal: Terminal) -> str:
    """What is on the screen as SVG: text that can be read, found and copied, on a dark ground whatever is around it."""
    lines = [_runs(terminal, number) for number, text in enumerate(terminal.screen.display) if text.strip()]
    shown = [line for line in lines if "".join(text for text, _, _ in line).strip() != PROMPT.strip()]
    height = _HEIGHT * len(shown) + 2 * _MARGIN
    width = round(_WIDTH * COLUMNS) + 2 * _MARGIN
    rows = "\n".join(_row(line, _MARGIN + _HEIGHT * (number + 1) - 5) for number, line in enumerate(shown))
    words = html.escape(" ".join("".join(text for text, _, _ in line).strip() for line in shown))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title text">
<title id="title">A terminal: a deploy to three hosts, a broken one that is rolled back, and the app that still answers</title>
<desc id="text">{words}</desc>
<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>
<g font-family="{_FONT}" font-size="13">
{rows}
</g>
</svg>
"""


def _runs(terminal: Terminal, number: int) -> Sequence[tuple[str, str, bool]]:
    """The texts of a line with their colours, and whether they are bold."""
    row = terminal.screen.buffer[number]
    cells = [row[column] for column in range(COLUMNS)]
    kinds = groupby(cells, key=lambda cell: (cell.fg, cell.bold))
    runs = [("".join(cell.data for cell in group), str(fg), bool(bold)) for (fg, bold), group in kinds]
    return [*runs[:-1], (runs[-1][0].rstrip(), *runs[-1][1:])]


def _row(line: Sequence[tuple[str, str, bool]], y: int) -> str:
    parts, column = [], 0
    for text, colour, is_bold in line:
        weight = ' font-weight="bold"' if is_bold else ""
        fill = _COLOURS.get(colour, _COLOURS["default"])
        if text.strip():
            parts.append(
                f'<tspan x="{_MARGIN + column * _WIDTH:.1f}" fill="{fill}"{weight}>{html.escape(text)}</tspan>'
            )
        column += len(text)
    return f'<text y="{y}">{"".join(parts)}</text>'
