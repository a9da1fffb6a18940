"""Every cause that a verdict can name: key and title. `docs/troubleshooting.md` has a heading for each title.

A check's `Cause` adds to it what was seen here (names, ports) and the mend.
"""

from __future__ import annotations

TITLES = {
    # The way from the cluster to an external node
    "block-not-published": "The port block of a node is not published",
    "port-blocked": "One port of a node's block is blocked",
    "advertised-address": "A node advertises an address that others can't reach",
    "name-unknown": "A name does not resolve: an `extra_hosts` entry is missing",
    "name-wrong": "A name resolves to a wrong address",
    "host-unreachable": "The host's address can't be reached",
    # Who may join
    "token-wrong": "A node or client has another token",
    "token-missing": "A node or client has no token",
    "token-off": "The cluster lets clients in without a token",
    "ray-version": "Ray's version differs",
    "python-version": "Python's version differs",
    "wrong-port-client": "A worker was given the Ray Client port",
    "wrong-port-gcs": "Ray Client was given the GCS port",
    "wrong-port": "What answers at an address is something else",
    "entry-dead": "Nobody answers at an entry",
    # Nodes and their state
    "health-down": "The health server does not answer",
    "no-leader": "Nobody leads",
    "two-heads": "There are two heads",
    "head-lost": "The head was lost",
    "node-dead": "A node was marked dead",
    "node-exited": "A node ended",
    "node-paused": "A node is paused",
    "node-missing": "A node is not there",
    "name-twice": "Two nodes have the same name",
    "not-in-whitelist": "The whitelist does not name the node",
    "environment-differs": "A container's environment is not what the config says",
    "shm-small": "`/dev/shm` is too small",
    "no-ray-on-path": "`ray` or `python` is not found",
    "worker-ports": "A node has no worker port left",
    "overloaded": "The machine is overloaded",
    # The machine
    "subnet-clash": "A subnet is in use already",
    "port-taken": "A port of the host is taken",
    "published-too-much": "More is published than the config says",
    "not-isolated": "The test network reaches what it should not",
    "link-dead": "A link carries nothing",
    "link-slow": "A link is much slower in one direction",
    "data-differs": "What arrived is not what was sent",
    "dashboard-down": "The dashboard does not answer",
    "ray-error": "Ray refused, in its own words",
}
