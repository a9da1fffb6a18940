#!/usr/bin/env python3
"""Stands in for `ray`: `stub_ray.py start …` behaves as STUB_RAY says, and writes each call down in STUB_RAY_FOLDER.

STUB_RAY holds words: `fail=N` (the first N starts of this node end with exit code 1), `hang` (never comes up), `deaf`
(ignores SIGTERM), `family` (leaves children behind: one in its session, one in a session of its own), `vital` (a child
named `raylet`), `token` (its last line is that of a refused token), `brief` (ends by itself once it is up).

A head listens on its three ports, at the addresses that Ray takes, and greets with the node's name and the port's number.
"""

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

FOLDER = Path(os.environ["STUB_RAY_FOLDER"])
WORDS = dict(word.partition("=")[::2] for word in os.environ.get("STUB_RAY", "").split())
FLAGS = dict(argument.partition("=")[::2] for argument in sys.argv[2:])
NAME = FLAGS["--node-name"]


def write_down(**what):
    line = json.dumps({"node": NAME, "pid": os.getpid(), **what})
    descriptor = os.open(FOLDER / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def calls_so_far():
    lines = (FOLDER / "calls").read_text().splitlines()
    return sum(1 for line in lines if json.loads(line)["node"] == NAME and "argv" in json.loads(line))


def leave_behind(name, new_session=False):
    """A grandchild whose parent has ended; its pid is written down first."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        if new_session:
            os.setsid()
        if os.fork() == 0:
            Path("/proc/self/comm").write_text(name)
            write_down(child=name)
            os.write(writing, b".")
            while True:
                signal.pause()
        os._exit(0)
    os.wait()
    os.read(reading, 1)


def greet(host, port):
    server = socket.create_server((host, port))

    def serve():
        while True:
            connection, _ = server.accept()
            connection.sendall(f"{NAME} {port}\n".encode())
            connection.close()

    threading.Thread(target=serve, daemon=True).start()


def main():
    write_down(argv=sys.argv[1:], instance=os.environ.get("WS_NODE_INSTANCE"))
    if "deaf" in WORDS:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "token" in WORDS:
        sys.exit("InvalidAuthToken: the token is not the cluster's")
    if calls_so_far() <= int(WORDS.get("fail", 0)):
        sys.exit("this start fails")
    if "family" in WORDS:
        leave_behind("same session")
        leave_behind("own session", new_session=True)
    if "vital" in WORDS:
        leave_behind("raylet")
    if "hang" in WORDS:
        signal.pause()
    if "--head" in FLAGS:
        greet("0.0.0.0", int(FLAGS["--port"]))
        greet("0.0.0.0", int(FLAGS["--ray-client-server-port"]))
        greet(FLAGS["--dashboard-host"], int(FLAGS["--dashboard-port"]))
    print("Ray runtime started.", flush=True)
    if "brief" not in WORDS:
        signal.pause()


if __name__ == "__main__":
    main()
