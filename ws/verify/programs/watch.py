"""Every change of any node, as the GCS tells it; runs until its stdin ends. Needs Ray and grpcio, and is no driver.

PARAMS: {"address": "host:port" of the GCS or of an entry to it, "interval": 0.5, "timeout": 2.0, "pulse": false}; times in
seconds.

Events:
- {"event": "nodes", "nodes": [{"name", "id", "alive", "head", "address", "cpus", "why", "wanted"}, …]}: at the start, and
  whenever any of it has changed. All nodes that the GCS remembers, dead ones too; `why` is the GCS' reason for a death, else
  ""; `wanted`: it was told to end, or its autoscaler had no more work for it.
- {"event": "same"}, with "pulse": the GCS was asked again, and nothing has changed.
- {"event": "lost", "why"}: the GCS does not answer (any more); once, until it does again, and then "nodes" comes anew.
"""

import sys
import time

from common import brief, call, emit, parameters, split, token

METHOD = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"
WANTED_ENDS = (1, 4)  # of Ray's `NodeDeathInfo.Reason`: EXPECTED_TERMINATION, AUTOSCALER_DRAIN_IDLE


def look(host, port, timeout):
    """The nodes as in the event, in the order of their ids; raises ConnectionError where the GCS does not answer."""
    from ray.core.generated.gcs_service_pb2 import GetAllNodeInfoReply

    status, details, answer = call(host, port, METHOD, secret=token(), timeout=timeout)
    if status != "OK":
        raise ConnectionError(f"{status}: {details}")
    nodes = GetAllNodeInfoReply.FromString(answer).node_info_list
    return sorted((described(node) for node in nodes), key=lambda node: node["id"])


def described(node):
    return {
        "name": node.node_name,
        "id": node.node_id.hex(),
        "alive": node.state == 0,
        "head": node.is_head_node,
        "address": node.node_manager_address,
        "cpus": node.resources_total.get("CPU", 0.0),
        "why": node.death_info.reason_message,
        "wanted": node.death_info.reason in WANTED_ENDS,
    }


def main():
    params = parameters()
    host, port = split(params["address"])
    interval, timeout = float(params.get("interval", 0.5)), float(params.get("timeout", 2.0))
    last = None
    while True:
        try:
            nodes = look(host, port, timeout)
            if nodes != last:
                emit("nodes", nodes=nodes)
            elif params.get("pulse"):
                emit("same")
            last = nodes
        except ConnectionError as error:
            if last != "lost":
                emit("lost", why=brief(error))
            last = "lost"
        time.sleep(interval)


if __name__ == "__main__":
    sys.exit(main())
