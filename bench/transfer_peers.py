"""What others do the same work with, for bench/transfer.py: each sends DATA/NAME of one node to DATA/in/ of others.

Whoever has a server gets it started beforehand; a run is what a user would type. Nobody fsyncs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from transfer_links import listening
from transfer_nodes import DATA, Node

RSYNC_PORT, SSH_PORT, HTTP_PORT, NC_PORT, IPERF_PORT, UFTP_PORT = 8730, 8722, 8780, 8790, 8701, 8744
RSYNC = "rsync -a -W --inplace"
SSH = "-q -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i /tmp/bench/key"
UFTP_BUFFER = 8 << 20
UFTP_KBITS = 450_000
"""It keeps to the rate it is told; its headers come on top of it, and what a link drops it has to send again."""


@dataclass(frozen=True)
class Peer:
    """`prepare(sender, recipients)` starts servers; `send(sender, recipients, name)` may return seconds of its own count.

    Attributes:
        needs: commands in the containers; without one of them the peer is left out.
        says: what its figure contains, for the table.
        copies: whether DATA/in/NAME is a copy afterwards, which then is compared.
    """

    name: str
    needs: tuple[str, ...]
    says: str
    prepare: Callable[[Node, Sequence[Node]], None]
    send: Callable[[Node, Sequence[Node], str], float | None]
    copies: bool = True

    def is_here(self, nodes: Sequence[Node]) -> bool:
        return all(node.has(command) for node in nodes for command in self.needs)


def daemon(node: Node, command: str, port: int) -> None:
    """Start a server that stays until the container goes, and wait until it listens."""
    node.run(f"setsid {command} </dev/null >/tmp/daemon-{port}.log 2>&1 & timeout 10 bash -c {listening(port)!r}")


def _nothing(sender: Node, recipients: Sequence[Node]) -> None:
    pass


def _rsync_prepare(sender: Node, recipients: Sequence[Node]) -> None:
    settings = f"use chroot = no\\n[in]\\npath = {DATA}/in\\nread only = no\\n"
    for node in recipients:
        node.run(f"printf '{settings}' > /tmp/rsyncd.conf")
        daemon(node, f"rsync --daemon --no-detach --config=/tmp/rsyncd.conf --port={RSYNC_PORT}", RSYNC_PORT)


def _rsync(sender: Node, recipients: Sequence[Node], name: str) -> None:
    for node in recipients:
        sender.run(f"{RSYNC} {DATA}/{name} rsync://{node.hostname}:{RSYNC_PORT}/in/")


def _scp_prepare(sender: Node, recipients: Sequence[Node]) -> None:
    new_key = "mkdir -p /tmp/bench && rm -f /tmp/bench/key && ssh-keygen -q -t ed25519 -N '' -f /tmp/bench/key"
    sender.run(new_key)
    public = sender.run("cat /tmp/bench/key.pub")
    for node in recipients:
        node.as_root("mkdir -p /run/sshd")
        node.run(f"{new_key} && echo '{public}' > /tmp/bench/authorized")
        options = "-o UsePAM=no -o StrictModes=no -o PidFile=none -o AuthorizedKeysFile=/tmp/bench/authorized"
        daemon(node, f"/usr/sbin/sshd -D -p {SSH_PORT} -h /tmp/bench/key {options}", SSH_PORT)


def _scp(sender: Node, recipients: Sequence[Node], name: str) -> None:
    for node in recipients:
        sender.run(f"scp {SSH} -P {SSH_PORT} {DATA}/{name} ray@{node.hostname}:{DATA}/in/")


def _rclone_prepare(sender: Node, recipients: Sequence[Node]) -> None:
    daemon(sender, f"rclone --config /dev/null serve http --addr :{HTTP_PORT} {DATA}", HTTP_PORT)


def _rclone(sender: Node, recipients: Sequence[Node], name: str) -> None:
    url = f"http://{sender.hostname}:{HTTP_PORT}"
    for node in recipients:
        node.run(f"rclone --config /dev/null --http-url {url} copyto :http:{name} {DATA}/in/{name}")


def nc(sender: Node, recipient: Node, name: str, port: int, *, hashed: bool) -> float:
    """Seconds; `hashed`: SHA-256 on both sides while the bytes flow, and compared."""
    source, target = f"{DATA}/{name}", f"{DATA}/in/{name}"
    recipient.start(f"nc -4 -l {port} " + (f"| tee {target} | sha256sum" if hashed else f"> {target}"))
    recipient.in_network("timeout", "10", "bash", "-c", listening(port))
    began = time.perf_counter()
    send = f"nc -N {recipient.hostname} {port} < {source}"
    there = sender.run(f"sha256sum < {source} & {send}; wait" if hashed else send)
    if recipient.finish("nc") != there:
        raise SystemExit(f"nc: the copy at {recipient.hostname} differs")
    return time.perf_counter() - began


def _nc(sender: Node, recipients: Sequence[Node], name: str) -> float:
    (recipient,) = recipients
    return nc(sender, recipient, name, NC_PORT, hashed=True)


def _iperf_prepare(sender: Node, recipients: Sequence[Node]) -> None:
    for node in recipients:
        daemon(node, f"iperf3 --server --port {IPERF_PORT}", IPERF_PORT)


def _iperf(sender: Node, recipients: Sequence[Node], name: str) -> float:
    (recipient,) = recipients
    size = sender.run(f"stat -c %s {DATA}/{name}")
    told = json.loads(sender.run(f"iperf3 --client {recipient.hostname} --port {IPERF_PORT} --bytes {size} --json"))
    return float(told["end"]["sum_received"]["seconds"])


def _cp(sender: Node, recipients: Sequence[Node], name: str) -> None:
    sender.run(f"cp {DATA}/{name} {DATA}/in/{name}")


def _uftp_prepare(sender: Node, recipients: Sequence[Node]) -> None:
    for node in recipients:
        node.run(f"uftpd -D {DATA}/in -I eth0 -p {UFTP_PORT} -B {UFTP_BUFFER} -L /tmp/uftpd.log -P /tmp/uftpd.pid")


def _uftp(sender: Node, recipients: Sequence[Node], name: str) -> None:
    # A client's id is its address; with all of them named, nothing waits for more to come.
    ids = ",".join(f"0x{int(ip_address(node.address)):08X}" for node in recipients)
    sender.run(f"uftp -R {UFTP_KBITS} -B {UFTP_BUFFER} -b 1400 -I eth0 -p {UFTP_PORT} -H {ids} {DATA}/{name}")


RSYNC_DAEMON = Peer("rsync daemon", ("rsync",), "its own hash of each file", _rsync_prepare, _rsync)
UNICAST = (
    RSYNC_DAEMON,
    Peer("scp", ("scp", "sshd"), "encrypted", _scp_prepare, _scp),
    Peer("rclone http", ("rclone",), "four streams, no hash", _rclone_prepare, _rclone),
    Peer("nc + sha256sum", ("nc",), "SHA-256 on both sides, in parallel", _nothing, _nc),
    Peer("iperf3", ("iperf3",), "ceiling: memory to memory", _iperf_prepare, _iperf, copies=False),
    Peer("cp", ("cp",), "ceiling: within one container", _nothing, _cp, copies=False),
)
BROADCAST = (
    Peer("rsync in a loop", ("rsync",), "one recipient after the other", _rsync_prepare, _rsync),
    Peer("uftp", ("uftp", "uftpd"), "multicast on the bridge, no hash", _uftp_prepare, _uftp),
)
