"""What the programs that run on nodes have in common. Standard library, and Ray or gRPC where a function says so.

`ws.verify.programs.text` puts this module in front of a program, as the module `common`; a program that is run as a file
imports it from beside itself. What Ray sends to other nodes (tasks, actors) may use nothing of it: they have no such module.
"""

import json
import os
import select
import socket
import sys
import threading
import time

CLOSED_AT_ONCE = 0.3  # seconds in which a proxy without anything behind it closes what it accepted
GRPC_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))


def parameters():
    """The parameters of a program that was started by `ask`, whose end is to be ours: when stdin ends, so do we."""
    end_with_parent()
    return json.loads(sys.argv[1])


def emit(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def brief(error):
    """The telling line of a Ray error, whose text may be a page long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:500]


def end_with_parent():
    """Nobody listens any more once stdin has ended, even where the one that started us was killed."""

    def wait():
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def token():
    """The token that Ray would use here; "" where there is none."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if os.environ.get("RAY_AUTH_TOKEN"):
        return os.environ["RAY_AUTH_TOKEN"].strip()
    try:
        with open(path or os.path.expanduser("~/.ray/auth_token"), encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def split(address):
    """`host:port` as (host, port)."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def resolve(host):
    """The IPv4 address that a name has here, None where it has none."""
    try:
        return socket.gethostbyname(host)
    except (OSError, UnicodeError):
        return None


def reach(ip, port, timeout):
    """(outcome, detail, seconds until it was known) of connecting, as in netprobe's event."""
    began = time.monotonic()
    outcome, detail, ended = "open", "", None
    try:
        with socket.create_connection((ip, port), timeout=timeout) as connection:
            ended = time.monotonic()
            if closed_at_once(connection):
                outcome, detail = "refused", "it accepts and closes at once: a proxy with nothing behind it"
    except ConnectionRefusedError:
        outcome, detail = "refused", "nothing listens there"
    except (TimeoutError, socket.timeout):  # two classes before Python 3.10
        outcome, detail = "timeout", f"no answer within {timeout:g} s"
    except OSError as error:
        outcome, detail = "unreachable", error.strerror or str(error)
    return outcome, detail, round((ended or time.monotonic()) - began, 4)


def closed_at_once(connection):
    readable, _, _ = select.select([connection], [], [], CLOSED_AT_ONCE)
    try:
        return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""
    except ConnectionResetError:
        return True


def call(host, port, method, request=b"", secret="", timeout=2.0):
    """One gRPC call with raw bytes: (name of the status, its details, the answer's bytes). Needs grpcio.

    Each call has a connection of its own: gRPC would wait longer and longer after each failure of one that it keeps.
    """
    import grpc

    metadata = [("authorization", f"Bearer {secret}")] if secret else []
    with grpc.insecure_channel(f"{host}:{port}", options=GRPC_OPTIONS) as channel:
        try:
            return "OK", "", channel.unary_unary(method)(request, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            return error.code().name, error.details() or "", b""


KV_GET = "/ray.rpc.InternalKVGcsService/InternalKVGet"
# Field 1: the key, field 2: its namespace. Ray checks a driver's versions against the same entry.
METADATA_REQUEST = b"\x0a\x10CLUSTER_METADATA\x12\x07cluster"


def gcs_versions(host, port, secret="", timeout=2.0):
    """{"ray", "python"} of the cluster whose GCS listens there, None where it does not say. Needs grpcio."""
    status, _, answer = call(host, port, KV_GET, METADATA_REQUEST, secret, timeout)
    start, end = answer.find(b"{"), answer.rfind(b"}")
    if status != "OK" or start < 0:
        return None
    try:
        known = json.loads(answer[start : end + 1])
        return {"ray": known["ray_version"], "python": known["python_version"]}
    except (ValueError, KeyError):
        return None


def connect(address, deadline):
    """A driver, or a Ray Client for `ray://…`, on the cluster at this address; returns the module `ray`.

    `deadline` is monotonic. A closed port is waited for here, because `ray.init` there can end the process.
    """
    direct = "://" not in address
    if direct:
        await_port(*split(address), deadline=deadline)
    # Under `uv run`, Ray would have every worker of the cluster run by uv, with this folder uploaded.
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    # A call after the connection broke would have Ray start a cluster here, and judge that.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    import ray

    if direct:
        await_raylet(address, deadline)
    while True:
        try:
            # No working_dir and no other runtime_env: a cluster may be somebody else's (DESIGN decision 8).
            ray.init(address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
            return ray
        except Exception as error:
            if time.monotonic() > deadline:
                raise
            emit("connecting", why=brief(error))
            time.sleep(0.3)


def await_port(host, port, deadline):
    """Return once the port accepts; raises the last error at the deadline."""
    obstacle = TimeoutError("no time left")
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), timeout=2).close()
            return
        except OSError as error:
            obstacle = error
            time.sleep(0.1)
    raise obstacle


def await_raylet(address, deadline):
    """Wait until the GCS knows a living node: `ray.init` itself would look for one only once a second."""
    try:
        from ray._raylet import GcsClient

        gcs = GcsClient(address=address)
        while time.monotonic() < deadline:
            if any(node.state == 0 for node in gcs.get_all_node_info(timeout=5).values()):  # 0: alive
                return
            time.sleep(0.05)
    except Exception as error:
        # Not part of Ray's public interface: without it, connecting is slower and nothing else.
        emit("connecting", why=brief(error))
