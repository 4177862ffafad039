"""A slow link in user space: each port given leads to a host's sshd, and what passes is late by a fixed time each way.

`slowlink.py SECONDS LISTEN=HOST:PORT ...`; prints `ready` once it listens. The kernel here has no netem.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """In order, each piece `seconds` after it came."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            loop.call_later(seconds, writer.write, piece)
    loop.call_later(seconds, _end, writer)


def _end(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


async def main() -> None:
    seconds = float(sys.argv[1])
    for route in sys.argv[2:]:
        listen, _, target = route.partition("=")
        host, _, port = target.rpartition(":")

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str = host, port: str = port
        ) -> None:
            there, back = await asyncio.open_connection(host, int(port))
            await asyncio.gather(carry(reader, back, seconds), carry(there, writer, seconds))

        await asyncio.start_server(serve, "127.0.0.1", int(listen))
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
