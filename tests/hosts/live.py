"""A client of WebSockets in the lab's network: `python -m tests.hosts.live ADDRESS PORT`; SIGTERM ends it.

It prints how many of its messages came back, how often an app said goodbye (then it connects again at once), and what was cut
without a word.
"""

import json
import signal
import sys
import threading
import time

from tests.deploy.balanced import Goodbye, WebSocket


def main() -> None:
    address, port = sys.argv[1], int(sys.argv[2])
    counts, cut = {"echoed": 0, "goodbyes": 0}, []
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def talk() -> None:
        live = WebSocket(port, address)
        while not stop.is_set():
            try:
                counts["echoed"] += live.says("hello") == "hello"
            except Goodbye:
                counts["goodbyes"] += 1
                live.close()
                live = WebSocket(port, address)
            except (OSError, AssertionError) as error:
                cut.append(repr(error))
                live = WebSocket(port, address)
            time.sleep(0.05)

    threads = [threading.Thread(target=talk) for _ in range(6)]
    for thread in threads:
        thread.start()
    print("running", flush=True)
    stop.wait(300)
    for thread in threads:
        thread.join()
    print(json.dumps({**counts, "cut": cut}), flush=True)


if __name__ == "__main__":
    main()
