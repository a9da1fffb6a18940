"""How ports look from here, and what speaks there; one event for each target, as they are found.

PARAMS: {"targets": [[host, port], …], "timeout": 2.0, "identify": false}. Standard library; gRPC protocols are told apart
where grpcio can be imported. All targets are tried at the same time; one takes up to `timeout` seconds to connect, and with
`identify` up to six times that in all.

Events:  {"event": "target", "host", "port", "ip", "outcome", "detail", "seconds", "speaks", "token", "versions",
          "dashboard"}
         {"event": "done"}

- ip: what the host's name resolves to here, null where it does not.
- outcome: open | refused | timeout | unreachable | unresolved. A port that accepts and closes at once, before anything was
  sent, counts as refused: so answers Docker's proxy, and our own relay, where nothing listens behind them.
- seconds: how long it took to connect, or to find that it can't.
- speaks: null unless `identify` and open; else gcs | client | dashboard | health | http | grpc (another server of Ray:
  raylet, object manager, …, or one that can't be told apart for lack of grpcio) | unknown (detail: what came instead; with
  "silent": true where nothing came, or no gRPC call is answered, as by a program that is paused, hangs or is overloaded).
- token (gcs, client and dashboard alone): off (it asks for none) | right | wrong (it refuses ours) | missing (it asks for
  one, and there is none here); null where it could not be seen.
- versions (gcs and dashboard, where they let us in): {"ray", "python"}, python null for a dashboard; else null.
- dashboard (gcs, where it lets us in): host:port of the cluster's dashboard as the GCS knows it; else null.
"""

import sys
import threading

from common import emit, parameters, reach, resolve
from identity import identity


def probe(host, port, timeout, identify):
    """Everything about one target, as the fields of its event."""
    found = {"ip": resolve(host), "speaks": None, "token": None, "versions": None, "dashboard": None}
    if found["ip"] is None:
        return {**found, "outcome": "unresolved", "detail": f"the name {host} does not resolve here", "seconds": 0.0}
    outcome, detail, seconds = reach(found["ip"], port, timeout)
    found.update(outcome=outcome, detail=detail, seconds=seconds)
    if identify and outcome == "open":
        found.update(identity(host, found["ip"], port, timeout))
    return found


def main():
    params = parameters()
    timeout, identify = float(params.get("timeout", 2.0)), bool(params.get("identify", False))
    speaking = threading.Lock()

    def one(host, port):
        try:
            found = probe(host, port, timeout, identify)
        except Exception as error:
            found = {"ip": None, "outcome": "unreachable", "detail": f"{type(error).__name__}: {error}", "seconds": 0.0}
        with speaking:
            emit("target", host=host, port=port, **found)

    threads = [threading.Thread(target=one, args=(host, int(port)), daemon=True) for host, port in params["targets"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    emit("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
