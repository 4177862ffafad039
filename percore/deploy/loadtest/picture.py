"""The spread as a picture: a bar for each worker. SVG by hand; PNG by a converter that is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from html import escape
from pathlib import Path

from percore.common.files import write_file
from percore.common.passwords import for_programs
from percore.deploy.loadtest.spread import WorkerShare
from percore.errors import PercoreError, UsageError

_LEFT, _WIDTH, _ROW = 240, 420, 22
_CONVERTERS = (("rsvg-convert", "{svg}", "-o", "{png}"), ("inkscape", "{svg}", "--export-filename={png}"))


def draw(title: str, shares: Sequence[WorkerShare]) -> str:
    most = max([share.accepted or 0 for share in shares], default=0) or 1
    height = 50 + _ROW * len(shares)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" font-family="sans-serif" font-size="13">',
        f'<title>{escape(title)}</title><rect width="760" height="{height}" fill="white"/>',
        f'<text x="10" y="24" font-weight="bold">{escape(title)}</text>',
    ]
    for number, share in enumerate(shares):
        y = 40 + _ROW * number
        name, count = f"{share.host} {share.app} {share.slot}", share.accepted
        width = round(_WIDTH * (count or 0) / most, 1)
        text = f"{count:,}" if count is not None else share.note
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{_LEFT}" y="{y + 2}" width="{width}" height="{_ROW - 6}" fill="#0a6"/>'
            f'<text x="{_LEFT + width + 6}" y="{y + 14}">{escape(text)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def find_converter() -> tuple[str, ...]:
    found = next((words for words in _CONVERTERS if shutil.which(words[0])), None)
    if found is None:
        raise UsageError("nothing here makes a PNG of a picture", next="apt install librsvg2-bin, or --svg FILE")
    return found


def write_png(path: Path, svg: str) -> None:
    source = path.with_name(f".{path.name}.svg")
    words = [word.format(svg=source, png=path) for word in find_converter()]
    write_picture(source, svg)
    try:
        done = subprocess.run(words, capture_output=True, text=True, env=for_programs(), timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PercoreError(f"{words[0]} did not end well: {error}") from None
    finally:
        source.unlink(missing_ok=True)
    if done.returncode:
        raise PercoreError(f"{words[0]} failed", where=str(path), detail=done.stderr.strip())


def write_picture(path: Path, svg: str) -> None:
    try:
        write_file(str(path), svg.encode(), mode=0o644)
    except OSError as error:
        raise PercoreError(f"it cannot be written: {error.strerror}", where=str(path)) from None
