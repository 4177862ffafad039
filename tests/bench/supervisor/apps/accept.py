"""The smallest server: it listens, accepts and closes."""

import os
import socket

server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(os.environ["SHARED_PORT"])))
server.listen(64)
while True:
    server.accept()[0].close()
