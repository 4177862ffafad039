"""Load by clients of our own: one connection for each request, so that what the workers accepted can be compared with it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_SECONDS_TO_ANSWER = 10.0
_LONGEST_HEAD = 1 << 16


@dataclass(frozen=True)
class LoadTarget:
    """Where requests go: one host."""

    host: str  # its name in the inventory
    address: str
    port: int
    tls: bool
    asked_host: str
    path: str

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}:{self.port}{self.path}"


@dataclass
class HostLoad:
    """What became of the requests to one host. `faults` by their kind: a status, or what the connection said."""

    seconds: float = 0.0
    sent: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    took: array[float] = field(default_factory=lambda: array("d"))  # seconds, of those that were answered

    @property
    def rate(self) -> float:
        return len(self.took) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float | None:
        ordered = sorted(self.took)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


@dataclass(frozen=True)
class LoadWish:
    """How much load: at most so many requests a second (0: as many as the connections carry), for so long."""

    connections: int
    seconds: float
    rate: float = 0.0


def send_load(places: Sequence[LoadTarget], wish: LoadWish) -> dict[str, HostLoad]:
    """By host. The hosts are asked in turn."""
    return asyncio.run(_send(places, wish))


async def _send(places: Sequence[LoadTarget], wish: LoadWish) -> dict[str, HostLoad]:
    loads = {place.host: HostLoad() for place in places}
    turns = itertools.cycle(places)
    began = time.monotonic()
    moments = _moments(wish, began)

    async def client() -> None:
        for moment in moments:
            if (wait := moment - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if time.monotonic() >= began + wish.seconds:
                return
            place = next(turns)
            await _ask(place, loads[place.host])

    await asyncio.gather(*(client() for _ in range(wish.connections)))
    for load in loads.values():
        load.seconds = time.monotonic() - began
    return loads


def _moments(wish: LoadWish, began: float) -> Iterator[float]:
    """When each request is due; the clients share them."""
    for number in itertools.count():
        moment = began + number / wish.rate if wish.rate else 0.0
        if moment >= began + wish.seconds:
            return
        yield moment


async def _ask(place: LoadTarget, load: HostLoad) -> None:
    load.sent += 1
    began = time.monotonic()
    try:
        status = await asyncio.wait_for(_exchange(place), _SECONDS_TO_ANSWER)
    except (TimeoutError, asyncio.TimeoutError):
        load.faults[f"no answer within {_SECONDS_TO_ANSWER:g} s"] += 1
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        load.faults[getattr(error, "strerror", None) or type(error).__name__] += 1
    else:
        load.took.append(time.monotonic() - began)
        if not 200 <= status < 400:
            load.faults[f"status {status}"] += 1


async def _exchange(place: LoadTarget) -> int:
    """The status of one answer, read to its end."""
    context = _unverified() if place.tls else None
    reader, writer = await asyncio.open_connection(
        place.address,
        place.port,
        ssl=context,
        server_hostname=place.asked_host if context else None,
        limit=_LONGEST_HEAD,
    )
    try:
        writer.write(
            f"GET {place.path} HTTP/1.1\r\nHost: {place.asked_host}\r\nUser-Agent: percore-loadtest\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        while await reader.read(1 << 16):
            pass
        return int(head.split(None, 2)[1])
    finally:
        writer.close()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await writer.wait_closed()


def _unverified() -> ssl.SSLContext:
    """The address is the inventory's, and nothing secret is said: a certificate for another name is no reason to stop."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
