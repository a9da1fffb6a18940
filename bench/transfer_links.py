"""Links for bench/transfer.py: each container's veth shaped on both ends, and one congestion control in all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from transfer_nodes import Node, said

SYSCTL = Path("/proc/sys/net/ipv4")
CONGESTION = ("cubic", "reno")
"""Linux's own default, and what every kernel allows in a container; in one millisecond they do the same."""
BURST = "128kb"
"""Two of the 64 KiB packets that veth hands on at once: at 500 Mbit/s 2 ms, so that no burst outruns the rate."""
QUEUE = "30ms"


def pin_congestion_control(nodes: Sequence[Node]) -> str:
    """The same for all containers; BBR and the others differ twofold on links as short as these. Returns what is in use."""
    allowed = (SYSCTL / "tcp_allowed_congestion_control").read_text().split()
    chosen = next(name for name in CONGESTION if name in allowed)
    for node in nodes:
        node.in_network("sysctl", "-q", "-w", f"net.ipv4.tcp_congestion_control={chosen}")
    return f"{chosen} in the containers, {(SYSCTL / 'tcp_congestion_control').read_text().strip()} on the host"


def shape(node: Node, mbit: int) -> None:
    """What leaves the container at `eth0`, and what enters it at the other end of its veth pair, on the host."""
    outer = next(
        line["ifname"]
        for line in json.loads(said("ip", "-json", "link", "show", "type", "veth"))
        if line["ifindex"] == int(node.run("cat /sys/class/net/eth0/iflink"))
    )
    tbf = ("root", "tbf", "rate", f"{mbit}mbit", "burst", BURST, "latency", QUEUE)
    node.in_network("tc", "qdisc", "replace", "dev", "eth0", *tbf)
    said("tc", "qdisc", "replace", "dev", outer, *tbf)


def check_rate(sender: Node, recipient: Node, mbit: int, port: int) -> float:
    """Mbit/s that iperf3 sees between two shaped nodes; ends the bench where that is not about `mbit`.

    TCP's own headers take 4 % of an Ethernet frame.
    """
    recipient.run(f"iperf3 --server --one-off --daemon --port {port}; {listening(port)}")
    told = json.loads(sender.run(f"iperf3 --client {recipient.hostname} --port {port} --time 3 --json"))
    rate = float(told["end"]["sum_received"]["bits_per_second"]) / 1e6
    if not 0.88 * mbit <= rate <= 1.02 * mbit:
        raise SystemExit(f"the link {sender.hostname} → {recipient.hostname} carries {rate:.0f} Mbit/s, not {mbit}")
    return rate


def listening(port: int) -> str:
    """Bash that ends once something listens on a port of its machine, without connecting to it."""
    return f"until grep -qE ':{port:04X} 0+:0000 0A' /proc/net/tcp /proc/net/tcp6; do sleep 0.01; done"
