"""How the status of an answer in HTTP/2 is read."""

from __future__ import annotations

import pytest

from percore.supervisor.health.exchange import _literal, status_in


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"\x88\x5a\x04gzip", "200"),
        (b"\x8d", "404"),
        (b"\x48\x03302", "302"),  # RFC 7541, C.5
        (b"\x48\x82\x64\x02", "302"),  # C.6: spelled in Huffman's code
        (b"\x08\x03503", "503"),
        (b"\x18\x83\x6d\xe7\xff", "589"),
        (b"\x20\x88", "200"),
        (b"\x3f\xe1\x1f\x88", "200"),  # a table of 4096 bytes
    ],
)
def test_each_form_of_a_status_is_read(fields: bytes, status: str) -> None:
    assert status_in(fields) == status


@pytest.mark.parametrize(
    "fields", [b"", b"\x20", b"\x3f\xff", b"\x82", b"\x48", b"\x48\x0320", b"\x48\x82\xff\xff", b"\x00\x01a"]
)
def test_what_has_no_status_is_refused(fields: bytes) -> None:
    with pytest.raises(ValueError, match="no status"):
        status_in(fields)


def test_a_long_path_has_a_long_number() -> None:
    assert _literal(58, "x" * 127) == b"\x0f\x2b\x7f\x00" + b"x" * 127
    assert _literal(4, "/" * 300)[:4] == b"\x04\x7f\xad\x01"
