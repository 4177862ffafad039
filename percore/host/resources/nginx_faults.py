"""Why a site cannot be taken over: what NGINX says about it, and what it does not mind, in our own words."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Optional

from percore.errors import RolloutError
from percore.host.paths import open_for_reading

_DUPLICATE = re.compile(r"a duplicate default server for (\S+) in")
_CONFLICT = re.compile(r'conflicting server name "(.*?)" on (\S+), ignored')
_CERTIFICATE = re.compile(r'cannot load certificate (key )?"(.+?)": (\w+)')
_MISMATCH = re.compile(r'SSL_CTX_use_PrivateKey\("(.+?)"\).*key values mismatch')
_UNKNOWN = re.compile(r'unknown directive "(.+?)" in (\S+)')
_MOST = 1 << 20


class Copy(NamedTuple):
    """A copy of /etc/nginx with the site in it. `link` and `path` are the site's, in the copy."""

    root: str
    link: str
    path: str

    def named(self, text: str) -> str:
        """As it is called on the host."""
        return text.replace(self.root, "/etc/nginx")

    def others(self, word: str) -> list[str]:
        """Files with other sites that say this."""
        return sorted(path for path in self._sites() if word in _text_of(path))

    def _sites(self) -> Iterator[str]:
        for name in ("sites-enabled", "conf.d"):
            directory = os.path.join(self.root, name)
            for file in os.listdir(directory) if os.path.isdir(directory) else ():
                path = os.path.join(directory, file)
                if path not in (self.link, self.path) and os.path.isfile(path):
                    yield path


def refusal(copy: Copy, output: str) -> RolloutError:
    """Of a configuration that NGINX refused with this output."""
    lines = copy.named(output).splitlines()
    faults = [line for line in lines if "[emerg]" in line] or lines or ["it said nothing"]
    what, advice = _in_our_words(copy, faults[0]) or (f"NGINX refuses the site: {faults[0]}", "")
    return RolloutError(what, next=advice, detail=copy.named(output))


def _in_our_words(copy: Copy, line: str) -> Optional[tuple[str, str]]:
    if found := _DUPLICATE.search(line):
        return _two_sites(copy, f"every name on {found[1]}", copy.others("default_server"))
    if found := _MISMATCH.search(line):
        return (
            f"the key in {found[1]} is not that of the certificate",
            "use its own key; in the file of the certificate the host's own comes first, then its chain",
        )
    if found := _UNKNOWN.search(line):
        return (
            f"the NGINX there has no directive '{found[1]}' ({found[2]})",
            "correct the line, or install Debian's package nginx: nginx-light lacks some",
        )
    if found := _CERTIFICATE.search(line):
        what = "key" if found[1] else "certificate"
        is_missing = "fopen" in line or found[3] == "BIO_new_file"
        fault = "cannot be read" if is_missing else f"holds no {what} as PEM without a passphrase"
        return f"the {what} {found[2]} {fault}", "set nginx_certificate and nginx_certificate_key to such files there"
    return None


def _two_sites(copy: Copy, about: str, others: Sequence[str]) -> tuple[str, str]:
    named = [copy.named(path) for path in others]
    shown = f" and {', '.join(named)}" if named else " and another one"
    replaces = f", or let this site replace the other one: nginx_replaces: [{', '.join(named)}]" if named else ""
    return f"two sites answer {about}: {copy.named(copy.link)}{shown}", f"set server_name{replaces}"


def require_served(copy: Copy, output: str, content: str) -> None:
    """RolloutError for a site that NGINX accepts and would not serve; `output` is that of `nginx -T`."""
    if not any(f"# configuration file {path}:" in output for path in (copy.link, copy.path)):
        raise RolloutError(
            f"NGINX does not read {copy.named(copy.link)}: its configuration includes no such file",
            next="add 'include /etc/nginx/sites-enabled/*;' to the http block of /etc/nginx/nginx.conf, or set nginx_link",
        )
    for name, address in _CONFLICT.findall(output):
        others = copy.others(name)
        if name and others and name in names_of(content):
            what, advice = _two_sites(copy, f"'{name}' on {address}", others)
            raise RolloutError(what, next=advice)


def certificates_of(content: str) -> list[str]:
    return re.findall(r"^\s*ssl_certificate\s+([^\s;$]+)\s*;", content, re.MULTILINE)


def names_of(content: str) -> Collection[str]:
    """What its servers are called."""
    return {
        word for names in re.findall(r"^\s*server_name\s+([^;]+);", content, re.MULTILINE) for word in names.split()
    }


def _text_of(path: str) -> str:
    try:
        with open_for_reading(os.path.realpath(path)) as source:
            return source.read(_MOST).decode(errors="replace")
    except OSError:
        return ""
