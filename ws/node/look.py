"""`__main__.py look`: what this node's agent says of itself, as one JSON line. For engines, which run it on the node."""

from __future__ import annotations

import json
import os

from ws.node.http_client import HttpFailure, call
from ws.node.settings import SettingsError, read_settings

_TIMEOUT = 3.0


def main() -> int:
    """Print the agent's `GET /node`; exit code 1 where it does not answer."""
    try:
        settings = read_settings(os.environ)
        host = "127.0.0.1" if settings.bind_host == "0.0.0.0" else settings.address
        if "agent" not in settings.ports:
            raise SettingsError("WS_NODE_PORTS names no port of the agent")
        url = f"http://{host}:{settings.ports['agent']}/node"
        print(json.dumps(call(url, "GET", None, settings.token(), _TIMEOUT)))
    except (SettingsError, HttpFailure) as error:
        print(json.dumps({"error": str(error)}))
        return 1
    return 0
