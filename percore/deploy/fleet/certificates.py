"""Certificates as visitors see them: until when they are valid, and for which names."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from percore.common.finding import ERROR, WARNING, Finding
from percore.deploy.connection.care_messages import ShownCertificate

SOON_DAYS = 14
_DAY = 86400.0


def about_certificates(certificates: Sequence[ShownCertificate], now: float | None = None) -> Iterator[Finding]:
    moment = time.time() if now is None else now
    for shown in certificates:
        try:
            found = x509.load_pem_x509_certificate(shown["pem"].encode())
        except ValueError:
            yield Finding(
                f"{shown['path']} holds no certificate that can be read", "put one there", "certificates", ERROR
            )
            continue
        yield from _about_time(shown["path"], found, moment)
        yield from _about_names(shown, found)


def _about_time(path: str, found: x509.Certificate, now: float) -> Iterator[Finding]:
    begins, ends = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    advice = "renew it (tls_renew_command, then setup), and reload NGINX"
    if now >= ends:
        what = f"the certificate {path} ended on {_date(ends)}"
        yield Finding(what, advice, "certificates", ERROR)
    elif now < begins:
        yield Finding(f"the certificate {path} begins on {_date(begins)}", advice, "certificates", ERROR)
    elif ends - now < SOON_DAYS * _DAY and ends - begins > 2 * SOON_DAYS * _DAY:
        what = f"the certificate {path} ends on {_date(ends)}, in {(ends - now) / _DAY:.0f} days"
        yield Finding(what, advice, "certificates", WARNING)


def _about_names(shown: ShownCertificate, found: x509.Certificate) -> Iterator[Finding]:
    valid_for = _names_of(found)
    wanted = [name for name in shown["names"] if _is_plain(name)]
    missing = [name for name in wanted if not any(covers(valid, name) for valid in valid_for)]
    if missing:
        what = f"the certificate {shown['path']} is not for {', '.join(missing)} (but for {', '.join(valid_for) or 'no name'})"
        yield Finding(what, "a certificate for these names, or another server_name", "certificates")


def _names_of(found: x509.Certificate) -> list[str]:
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return [str(each.value) for each in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _is_plain(name: str) -> bool:
    """Not NGINX's catch-all, nor one of its patterns."""
    return bool(name) and "." in name.strip(".") and name[0] not in "~$" and not name.endswith(".*")


def covers(valid: str, name: str) -> bool:
    """A star stands for one label, as browsers read it; `.x.org` means in NGINX both x.org and all below."""
    valid, name = valid.lower(), name.lower().lstrip(".")
    if valid == name:
        return True
    return valid.startswith("*.") and name.partition(".")[2] == valid[2:]


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))
