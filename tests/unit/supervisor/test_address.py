"""Addresses as process files write them."""

from __future__ import annotations

import socket

import pytest

from percore.supervisor.config.address import Address, everywhere, parse_address


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("127.0.0.1:3000", Address(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", 3000)),
        ("[0:0::1]:80", Address(socket.AF_INET6, socket.SOCK_STREAM, "::1", 80)),
        ("3000", everywhere(3000)),
        (":3000", everywhere(3000)),
        ("/run/app.sock", Address(socket.AF_UNIX, socket.SOCK_STREAM, "/run/app.sock", 0)),
    ],
)
def test_an_address_is_read(written: str, read: Address) -> None:
    assert parse_address(written) == read


@pytest.mark.parametrize(
    "written", ["", "0", "70000", "localhost:80", "::1:80", "1.2.3:80", "a.sock", "/" + 200 * "a", "1.2.3.4"]
)
def test_what_is_no_address_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"an address such as|a path of at most"):
        parse_address(written)
