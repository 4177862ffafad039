"""Clients for the lab's network: ask every URL again and again until told to stop, then print what happened as JSON.

Run inside the lab's namespace: `load.py [--reconnect] URL...`; SIGTERM ends it. Standard library only. `http://NAME@ADDRESS/`
asks ADDRESS for the site NAME.

With --reconnect a kept connection that was closed before any byte of an answer came is opened again, once, as browsers do: an
NGINX that is reloaded closes its idle connections, and one of them may be about to be used.
"""

import http.client
import json
import signal
import sys
import threading
import time
from urllib.parse import urlsplit

PAUSE = 0.015
"""Less, and the clients need the processor that the hosts are tested with."""


def main() -> None:
    counts = {"ok": 0, "lost": 0, "bad": 0, "reconnected": 0}
    reconnects = sys.argv[1] == "--reconnect"
    failures: list[str] = []
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def ask(url: str, keeps: bool) -> None:
        parts = urlsplit(url)
        connection, was_used = None, False
        site = {"Host": parts.username} if parts.username else {}
        while not stop.is_set():
            try:
                if connection is None:
                    connection, was_used = (
                        http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10),
                        False,
                    )
                connection.request(
                    "GET", parts.path or "/", headers={**site, **({} if keeps else {"Connection": "close"})}
                )
                response = connection.getresponse()
                body, was_used = response.read(), True
                counts["ok" if response.status == 200 else "bad"] += 1
                if response.status != 200:
                    failures.append(f"{url}: {response.status} {body[:80]!r}")
                if response.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                connection = None
                if reconnects and was_used and isinstance(error, (http.client.RemoteDisconnected, ConnectionError)):
                    counts["reconnected"] += 1
                    continue
                counts["lost"] += 1
                failures.append(f"{url}: {error!r}")
            time.sleep(PAUSE)

    threads = [
        threading.Thread(target=ask, args=(url, keeps)) for url in sys.argv[1 + reconnects :] for keeps in (True, False)
    ]
    for thread in threads:
        thread.start()
    while counts["ok"] < 20 and not stop.is_set():
        time.sleep(0.01)
    print("running", flush=True)
    stop.wait(600)
    for thread in threads:
        thread.join()
    print(json.dumps({**counts, "failures": failures[:10]}), flush=True)


if __name__ == "__main__":
    main()
