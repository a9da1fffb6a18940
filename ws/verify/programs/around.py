"""What a client outside sees before it uses Ray: names, ports, what speaks there, and the health server.

One of the modules that `ws.verify.programs.text` puts in front of a program, as `common` is. Needs grpcio to tell
Ray's servers apart.
"""

import shutil
import subprocess
import time
import urllib.request

from common import reach, resolve
from identity import identity

TIMEOUT = 3.0  # seconds for each connection and each call


def check(name, entry, ok, detail, began, cause=None, **evidence):
    seconds = round(time.monotonic() - began, 3)
    fields = {"ok": ok, "detail": detail, "cause": None if ok else cause, "seconds": seconds, "evidence": evidence}
    return {"event": "check", "check": name, "entry": entry, **fields}


def entry_checks(entry):
    name, began = entry["name"], time.monotonic()
    ip = resolve(name)
    if ip is None:
        detail = f"{name} does not resolve here: this container lacks an `extra_hosts` entry for it"
        yield check("resolve", name, False, detail, began, "name-unknown")
        return
    yield check("resolve", name, True, f"{name} resolves to {ip}", began, ip=ip)
    yield ping(name, ip, next((entry[kind] for kind in ("gcs", "client", "dashboard") if entry.get(kind)), None))
    if entry.get("gcs"):
        yield port_check("gcs-port", name, ip, entry["gcs"], "gcs", "GCS entry")
    if entry.get("client"):
        yield port_check("client-port", name, ip, entry["client"], "client", "Ray Client entry")


def ping(name, ip, port):
    """Whether the host answers: to ICMP where that is possible here, else to a TCP connection, be it refused."""
    began = time.monotonic()
    program = shutil.which("ping")
    if program:
        done = subprocess.run([program, "-c", "1", "-W", "2", ip], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            took = done.stdout.partition("time=")[2].split("\n")[0]
            return check("ping", name, True, f"{name} answers ping{f' ({took})' if took else ''}", began, by="icmp")
    why = "no answer to ICMP" if program else "no `ping` program here"
    outcome, detail, _ = reach(ip, port, TIMEOUT) if port else ("unknown", "no port to try", 0.0)
    if outcome in ("open", "refused"):
        return check("ping", name, True, f"{name} answers by TCP ({why})", began, by="tcp", outcome=outcome)
    detail = f"{name} ({ip}) does not answer: {why}; port {port}: {detail}"
    return check("ping", name, False, detail, began, "host-unreachable", outcome=outcome)


def port_check(what, name, ip, port, wanted, words):
    """Whether the port is open, the right one speaks there, and it takes our token."""
    began = time.monotonic()
    outcome, detail, _ = reach(ip, port, TIMEOUT)
    if outcome != "open":
        detail = f"port {port} ({words}) of {name} ({ip}): {outcome}, {detail}"
        return check(what, name, False, detail, began, "entry-dead", port=port, ip=ip, outcome=outcome)
    found = {"token": None, "versions": None, **identity(name, ip, port, TIMEOUT)}
    evidence = {"port": port, "ip": ip, "outcome": outcome, **found}
    evidence["said"] = evidence.pop("detail")
    if found["speaks"] != wanted:
        wrong = {"gcs": "wrong-port-gcs", "client": "wrong-port-client"}.get(found["speaks"], "wrong-port")
        cause = "entry-dead" if found.get("silent") else wrong
        detail = f"port {port} of {name} is no {words}: {described(found)}"
        return check(what, name, False, detail, began, cause, **evidence)
    lacking = {"wrong": "another token than ours", "missing": "a token, and there is none here"}.get(found["token"])
    if lacking:
        detail = f"port {port} ({words}) of {name} wants {lacking}"
        return check(what, name, False, detail, began, f"token-{found['token']}", **evidence)
    return check(what, name, True, f"port {port} ({words}) open", began, **evidence)


def described(found):
    words = {
        "gcs": "the GCS answers there, which is for nodes",
        "client": "the Ray Client server answers there, which is for clients",
        "dashboard": "the dashboard answers there",
        "health": "the health server answers there",
        "grpc": "another server of Ray answers there",
    }
    return words.get(found["speaks"]) or found["detail"]


def health_check(address):
    began = time.monotonic()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/", timeout=TIMEOUT) as answer:
            return check("health", None, True, f"health server http://{address} answers {answer.status}", began)
    except OSError as error:
        detail = f"health server http://{address} does not answer: {getattr(error, 'reason', error)}"
        return check("health", None, False, detail, began, "health-down")
