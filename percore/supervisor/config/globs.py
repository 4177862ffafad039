"""What `watch` and `ignore_watch` name: names, paths, globs and regular expressions, as PM2's users write them. Pure."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence

from percore.common.bounds import compile_regex, regex_limit
from percore.common.typing import Callable

_MAGIC = re.compile(r"[*?\[\]{}]")
# PM2's own default: what begins with a dot, and installed packages.
DEFAULT_IGNORED = (".*", "node_modules")


def has_magic(pattern: str) -> bool:
    return bool(_MAGIC.search(pattern))


def is_regex(pattern: str) -> bool:
    """`/text/` or `/text/i`, as JavaScript writes it; or a text that can only be one."""
    return (
        bool(re.fullmatch(r"/.+/[dgimsuy]*", pattern)) or "\\" in pattern or pattern[:1] == "^" or pattern[-1:] == "$"
    )


def check(pattern: str) -> None:
    """Raises ValueError for a regular expression that is none."""
    try:
        _to_regex(pattern)
    except ValueError as error:
        raise ValueError(f"globs, or regular expressions that can be read ({error} in '{pattern[:80]}')") from None


def make_filter(patterns: Iterable[str], base: str) -> Callable[[str, str], bool]:
    """Tells of a path, and the watched directory it lies in, whether one of `patterns` names it or a directory around it.

    A name counts at any depth; what has a slash counts from `base` on.
    """
    patterns = list(patterns)
    names: list[str] = []
    places: list[str] = []
    regexes: list[re.Pattern[str]] = []
    for pattern in patterns:
        if is_regex(pattern):
            regexes.append(_to_regex(pattern))
            continue
        plain = _bare(pattern)
        if "/" not in plain and not pattern.startswith("./"):
            names.append(translate(plain))
        elif plain:
            places.append(translate(plain if plain.startswith("/") else f"{base.rstrip('/')}/{plain}", keep=len(base)))
    name = re.compile(rf"(?:^|/)(?:{'|'.join(names)})(?:/|$)") if names else None
    place = re.compile(rf"(?:{'|'.join(places)})(?:/|$)") if places else None

    def is_named(path: str, root: str) -> bool:
        if name and name.search(below(path, root)):
            return True
        if place and place.match(path):
            return True
        inner = below(path, base) or path
        return any(regex.search(f"/{inner}") or regex.search(inner) for regex in regexes)

    def is_named_in_time(path: str, root: str) -> bool:
        with regex_limit(", ".join(patterns)):
            return is_named(path, root)

    return is_named_in_time


def below(path: str, directory: str) -> str:
    """The path from `directory` on; empty when it does not lie in it."""
    start = directory.rstrip("/") + "/"
    return path[len(start) :] if path.startswith(start) else ""


def fixed_part(pattern: str) -> str:
    """The directory of a glob below which everything lies that it can name."""
    parts: Sequence[str] = pattern.split("/")
    fixed = next((number for number, part in enumerate(parts) if has_magic(part)), len(parts))
    return "/".join(parts[:fixed])


def translate(pattern: str, *, keep: int = 0) -> str:
    """A glob as a regular expression; the first `keep` characters mean themselves."""
    found, rest = re.escape(pattern[:keep]), pattern[keep:]
    depth = 0
    position = 0
    while position < len(rest):
        character = rest[position]
        position += 1
        if character == "*":
            if rest.startswith("*", position):
                position += 1
                if rest.startswith("/", position):
                    position += 1
                    found += "(?:.*/)?"
                else:
                    found += ".*"
            else:
                found += "[^/]*"
        elif character == "?":
            found += "[^/]"
        elif character == "[" and (end := rest.find("]", position + 1)) > 0:
            inner = rest[position:end].replace("\\", "\\\\").replace("[", "\\[")
            found += f"[^{inner[1:]}]" if inner[0] in "!^" else f"[{inner}]"
            position = end + 1
        elif character == "{" and "}" in rest[position:]:
            found, depth = found + "(?:", depth + 1
        elif character == "," and depth:
            found += "|"
        elif character == "}" and depth:
            found, depth = found + ")", depth - 1
        else:
            found += re.escape(character)
    return found + ")" * depth


def _bare(pattern: str) -> str:
    """Without what says no more: a leading `./`, a trailing `/`, `/**` or `/**/*`."""
    return re.sub(r"^(?:\./)+|(?:/|/\*\*|/\*\*/\*)$", "", pattern)


def _to_regex(pattern: str) -> re.Pattern[str]:
    if not is_regex(pattern):
        return compile_regex(translate(pattern))
    written = re.fullmatch(r"/(.+)/([dgimsuy]*)", pattern, re.DOTALL)
    text, flags = (written[1], written[2]) if written else (pattern, "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Python may read otherwise one day
        return compile_regex(text, re.IGNORECASE if "i" in flags else 0)
