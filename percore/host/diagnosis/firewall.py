"""Whether rules of this host keep clients away from the app. Only what is certain: a rule that is not understood lets all in."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence

from percore.common.finding import Finding
from percore.host.facts import find_program

_SECONDS = 10
_DROPS = re.compile(r"hook input priority [^;]*; policy drop;")
_DPORT = re.compile(r"dport (?:\{([^}]*)\}|(\S+))")
_HARMLESS = re.compile(r"\b(?:ct state|iif(?:name)? \"?lo|icmp|l4proto)")
"""Of what accepts without a port: none of it is a new connection of a client."""


def about_firewall(ports: Sequence[int]) -> Iterator[Finding]:
    program = find_program("nft") if ports else None
    rules = _rules(program) if program else ""
    for port in closed_ports(rules, ports):
        what = f"its firewall drops connections to port {port}"
        yield Finding(what, "firewall_ports, or load_balancers where only those may connect; then setup", "firewall")


def closed_ports(rules: str, ports: Sequence[int]) -> list[int]:
    """Those that no rule names, where what comes in is dropped and nothing else is accepted but answers and the like."""
    if not _DROPS.search(rules):
        return []
    for line in rules.splitlines():
        if "dport" not in line and re.search(r"\b(?:accept|jump|goto)\b", line) and not _HARMLESS.search(line):
            return []
    named = [found[1] or found[2] for found in _DPORT.finditer(rules)]
    return [port for port in ports if not any(_may_mean(text, port) for text in named)]


def _may_mean(text: str, port: int) -> bool:
    """Also what is no number: the name of a service, or of a set."""
    for part in (each.strip() for each in text.split(",")):
        first, _, last = part.partition("-")
        if not first.isdigit() or not (last or first).isdigit() or int(first) <= port <= int(last or first):
            return True
    return False


def _rules(program: str) -> str:
    try:
        done = subprocess.run(
            [program, "list", "ruleset"], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout
