"""What speaks at an open port: one of Ray's servers, our health server, or something else.

One of the modules that `ws.verify.programs.text` puts in front of a program, as `common` is. `identity` gives the fields
`speaks`, `detail`, and where they are known `token` and `versions`, as the events of netprobe describe them.
"""

import json
import re
import socket
import time

from common import KV_GET, call, gcs_versions, token

# Field 1: the key, field 2: its namespace, as Ray's `Node` writes them.
DASHBOARD_REQUEST = b"\x0a\x09dashboard\x12\x09dashboard"
ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
CLUSTER_INFO = "/ray.rpc.RayletDriver/ClusterInfo"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # HTTP/2's greeting, and no settings
REFUSALS = (401, 403)  # Ray's dashboard, without a token and with a wrong one
MOST = 20_000  # bytes of an answer


def identity(host, ip, port, timeout):
    """`speaks`, and what else there is to say, from what it answers to HTTP and to gRPC."""
    answer, trouble = http_get(host, ip, port, "/api/version", timeout)
    if answer.startswith(b"HTTP/1."):
        return http_identity(host, ip, port, answer, timeout)
    if trouble == "silent":
        return {"speaks": "unknown", "silent": True, "detail": f"it accepts, and says nothing within {timeout:g} s"}
    try:
        return grpc_identity(ip, port, timeout)
    except ImportError:
        return preface_identity(ip, port, timeout)


def http_get(host, ip, port, path, timeout, secret=""):
    """(the first bytes of the whole answer, what went wrong): "" | silent | closed. Written out, for servers of any kind."""
    authorization = f"Authorization: Bearer {secret}\r\n" if secret else ""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}Connection: close\r\n\r\n"
    return exchange(ip, port, request.encode(), timeout, lambda received: False)


def exchange(ip, port, request, timeout, enough):
    """Send bytes and read until the other side closes, has said enough, or the time is over."""
    deadline, received = time.monotonic() + timeout, b""
    try:
        with socket.create_connection((ip, port), timeout=timeout) as connection:
            connection.sendall(request)
            while len(received) < MOST and not enough(received):
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                part = connection.recv(4096)
                if not part:
                    break
                received += part
    except (TimeoutError, socket.timeout):
        return received, "" if received else "silent"
    except OSError:
        pass
    return received, "" if received else "closed"


def http_identity(host, ip, port, answer, timeout):
    """From the answer to GET /api/version, which wants the token, and that to GET /, which never does."""
    status, body = http_parts(answer)
    root_status, root_body = http_parts(http_get(host, ip, port, "/", timeout)[0])
    if ray_version(status, body) or (status in REFUSALS and "Ray Dashboard" in root_body):
        return dashboard_identity(host, ip, port, status, body, timeout)
    health = root_status == 200 and root_body.strip() == "OK"
    return {"speaks": "health" if health else "http", "detail": f"GET / answers {root_status}{' OK' if health else ''}"}


def http_parts(answer):
    """(status, body) of an HTTP answer; 0 where it is none."""
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return status, body.decode("utf-8", "replace")


def dashboard_identity(host, ip, port, status, body, timeout):
    secret, judged = token(), "off"
    if status in REFUSALS:
        judged = "missing"
        if secret:
            status, body = http_parts(http_get(host, ip, port, "/api/version", timeout, secret)[0])
            judged = {200: "right", 401: "wrong", 403: "wrong"}.get(status)
    version = ray_version(status, body)
    versions = version and {"ray": version, "python": None}
    return {"speaks": "dashboard", "token": judged, "detail": f"GET /api/version answers {status}", "versions": versions}


def ray_version(status, body):
    """The version that a dashboard tells, None where it is none, or does not tell."""
    try:
        return json.loads(body[body.find("{") : body.rfind("}") + 1])["ray_version"] if status == 200 else None
    except (ValueError, KeyError, TypeError):
        return None


def grpc_identity(ip, port, timeout):
    """What speaks gRPC there, as fields of netprobe's event: only a server that has a method refuses our token for it."""
    for speaks, method, accepted in (("gcs", ALIVE, ("OK",)), ("client", CLUSTER_INFO, ("OK", "NOT_FOUND"))):
        status, details, _ = call(ip, port, method, timeout=timeout)
        if status == "DEADLINE_EXCEEDED" and greets(ip, port, timeout):
            return {"speaks": "grpc", "silent": True, "detail": f"it speaks gRPC, and answers no call within {timeout:g} s"}
        if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "CANCELLED"):
            return {"speaks": "unknown", "detail": f"no HTTP, no gRPC: {status} {details}"[:300]}
        if status == "UNIMPLEMENTED":
            continue
        judged = "off" if status in accepted else judge_token(ip, port, method, timeout)
        secret = token() if judged == "right" else ""
        found = {"speaks": speaks, "token": judged, "detail": f"{method} answers {status}"}
        if speaks == "gcs" and judged in ("off", "right"):
            found["versions"] = gcs_versions(ip, port, secret, timeout)
            found["dashboard"] = gcs_dashboard(ip, port, secret, timeout)
        return found
    return {"speaks": "grpc", "detail": "gRPC, but neither a GCS nor a Ray Client server"}


def judge_token(ip, port, method, timeout):
    """What a server that wants a token says to ours."""
    secret = token()
    if not secret:
        return "missing"
    status, _, _ = call(ip, port, method, secret=secret, timeout=timeout)
    if status in ("OK", "NOT_FOUND"):
        return "right"
    return "wrong" if status in ("UNAUTHENTICATED", "PERMISSION_DENIED") else None


def gcs_dashboard(ip, port, secret, timeout):
    """host:port of the cluster's dashboard as the GCS knows it, None where there is none."""
    status, _, answer = call(ip, port, KV_GET, DASHBOARD_REQUEST, secret, timeout)
    found = re.search(rb"[\w.-]+:\d+", answer) if status == "OK" else None
    return found.group().decode() if found else None


def greets(ip, port, timeout):
    """Whether an HTTP/2 server greets there: with its settings, a frame of type 4."""
    answer, _ = exchange(ip, port, PREFACE, timeout, lambda received: len(received) >= 9)
    return len(answer) >= 9 and answer[3] == 4


def preface_identity(ip, port, timeout):
    """Without grpcio."""
    if greets(ip, port, timeout):
        return {"speaks": "grpc", "detail": "HTTP/2; which server it is can't be told without grpcio"}
    return {"speaks": "unknown", "detail": "neither HTTP nor gRPC"}
