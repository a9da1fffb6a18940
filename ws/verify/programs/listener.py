"""Listens on ports that nobody else has, until its stdin ends: something on a node that is certainly not published.

PARAMS: {"ports": 2}, how many.
Events: {"event": "listening", "ports": [port, …]}, once.
"""

import socket
import time

from common import emit, parameters


def main():
    servers = [socket.create_server(("0.0.0.0", 0)) for _ in range(parameters()["ports"])]
    emit("listening", ports=[server.getsockname()[1] for server in servers])
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
