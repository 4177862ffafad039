"""NGINX on this host: does it take its configuration, does it run with this one, and which certificates does it show."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from percore.common.finding import ERROR, Finding
from percore.host.facts import find_program
from percore.host.paths import open_for_reading
from percore.host.resources.nginx import latest_unread, workers_if_any
from percore.host.resources.nginx_faults import certificates_of, names_of

_SECONDS = 20
_FILE = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
_EMERGENCY = re.compile(r"^.*\[emerg\]\s*(?:\d+#\d+:\s*)?")
_FIRST_PEM = re.compile(
    rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.+?-----END (?:TRUSTED )?CERTIFICATE-----", re.DOTALL
)
_MOST_BYTES = 1 << 20
_MOST_CERTIFICATES = 100


class ServedCertificate(NamedTuple):
    """The host's own certificate out of a file that NGINX uses, for the names of that server; the control side judges it."""

    path: str
    pem: str
    names: Sequence[str]


class NginxLook(NamedTuple):
    findings: list[Finding]
    certificates: list[ServedCertificate]


def look_at_nginx(sites: Sequence[str]) -> NginxLook:
    """`sites` are the links that enable those of the release. What does not run, and has none of ours, is left alone."""
    program = find_program("nginx")
    workers = workers_if_any() if program else set()
    if not program or not (workers or sites):
        missing = Finding("NGINX is not installed, and the release has a site", "apt-get install nginx", "nginx", ERROR)
        return NginxLook([missing] if sites else [], [])
    done = _ask(program)
    if done.returncode != 0:
        return NginxLook([_refused(done.stderr)], [])
    files = _files_of(done.stdout)
    findings = [*_about_sites(sites, files), *_about_running(workers, files)]
    return NginxLook(findings, list(_certificates(files)))


def _ask(program: str) -> subprocess.CompletedProcess[str]:
    words = [program, "-T"]
    try:
        return subprocess.run(
            words, capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", f"[emerg] it cannot be asked: {error}")


def _refused(said: str) -> Finding:
    lines = said.splitlines()
    why = next((line for line in lines if "[emerg]" in line), lines[-1] if lines else "it said nothing")
    what = f"NGINX refuses its configuration, and would not start again: {_EMERGENCY.sub('', why)}"
    return Finding(what, "correct the file, then nginx -t", "nginx", ERROR)


def _files_of(said: str) -> Mapping[str, str]:
    """By path, as NGINX names it."""
    parts = _FILE.split(said)
    return dict(zip(parts[1::2], parts[2::2]))


def _about_sites(sites: Sequence[str], files: Mapping[str, str]) -> Iterator[Finding]:
    for link in sites:
        if link not in files:
            what = f"NGINX does not read the site {link}"
            yield Finding(what, "include /etc/nginx/sites-enabled/*; in the http block of nginx.conf", "nginx", ERROR)


def _about_running(workers: set[tuple[int, int]], files: Mapping[str, str]) -> Iterator[Finding]:
    if not workers:
        yield Finding("NGINX does not run", "systemctl start nginx; journalctl -u nginx", "nginx", ERROR)
        return
    read = [*files, *(path for text in files.values() for path in certificates_of(text))]
    if unread := latest_unread(workers, read):
        changed, path = unread
        moment = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(changed))
        what = f"NGINX runs with what it read before {path} was changed ({moment})"
        yield Finding(what, "nginx -t && systemctl reload nginx", "nginx")


def _certificates(files: Mapping[str, str]) -> Iterator[ServedCertificate]:
    names_by_path: dict[str, list[str]] = {}
    for text in files.values():
        for path in certificates_of(text):
            names_by_path.setdefault(path, []).extend(sorted(names_of(text)))
    for path, names in [*names_by_path.items()][:_MOST_CERTIFICATES]:
        if pem := _first_pem(path):
            yield ServedCertificate(path, pem, list(dict.fromkeys(names)))


def _first_pem(path: str) -> str:
    """Never more of the file: it may hold the key as well."""
    try:
        with open_for_reading(os.path.realpath(path)) as source:
            found = _FIRST_PEM.search(source.read(_MOST_BYTES))
    except OSError:
        return ""
    return found[0].decode("ascii", errors="replace") if found else ""
