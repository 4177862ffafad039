"""ssh's way into the lab's network: copies standard input and output to a TCP connection (`pipe.py HOST PORT`)."""

import os
import select
import socket
import sys


def main() -> None:
    connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
    connection.settimeout(None)
    sources = {connection.fileno(): 1, 0: connection.fileno()}
    while connection.fileno() in sources:
        for source in select.select(list(sources), [], [])[0]:
            part = os.read(source, 65536)
            if not part:
                if source == 0:
                    connection.shutdown(socket.SHUT_WR)
                del sources[source]
                continue
            while part:
                part = part[os.write(sources[source], part) :]


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"{sys.argv[1]}:{sys.argv[2]}: {error.strerror or error}")
