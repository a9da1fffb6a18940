"""What the machine has against what the nodes want: memory, /dev/shm, disk, GPUs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ws.config.plan import ClusterPlan
from ws.engine.base import Project
from ws.engine.doctor_finding import Finding, bad, gib, good, warn
from ws.engine.machine import MEMORY_SHARE, Machine, wants_gpu
from ws.engine.preflight import override

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (measured, not written to)
_SHM = "shared memory"
# Ray takes a disk instead of /dev/shm below this share of a node's memory, with a warning only.
_SHM_SHARE = 0.3
_GB = 2**30
# The official image unpacked, and room for objects that Ray spills.
_ROOM_FOR_PULL, _ROOM = 12 * _GB, 2 * _GB
# Ray refuses new objects on disk above this.
_FULL = 0.95


def memory(plan: ClusterPlan, total: int) -> Iterator[Finding]:
    """`total`: bytes that the nodes may have together."""
    wanted = sum(node.memory for node in plan.nodes)
    if wanted <= total * MEMORY_SHARE:
        yield good("memory", f"{gib(total)}, of which the nodes want {gib(wanted)}")
        return
    share = int(total * MEMORY_SHARE / wanted * plan.nodes[0].memory / 2**20)
    yield warn(
        "memory",
        f"the nodes want {gib(wanted)} and there are {gib(total)}: each gets its share of that",
        f"give them less, such as {override(f'services.ray.{plan.nodes[0].key}.memory')}={share}m",
    )


def shm_of_containers(plan: ClusterPlan) -> Iterator[Finding]:
    """What each kind of container gets of /dev/shm against its memory."""
    small = {node.key: node for node in plan.nodes if node.shm_size < node.memory * _SHM_SHARE}
    for key, node in small.items():
        yield warn(
            _SHM,
            f"{node.hostname} gets {gib(node.shm_size)} of /dev/shm, less than 30% of its memory: Ray keeps objects on disk",
            f"{override(f'services.ray.{key}.shm_size')}={int(node.memory * 0.31 / 2**20)}m, or leave shm_size out",
        )
    if not small:
        sizes = ", ".join(dict.fromkeys(gib(node.shm_size) for node in plan.nodes))
        yield good(_SHM, f"{sizes} of /dev/shm for each container, enough for Ray's objects")


def shm_of_machine(plan: ClusterPlan) -> Iterator[Finding]:
    """What all local nodes share of /dev/shm."""
    wanted = sum(node.object_store_memory for node in plan.nodes)
    if not SHARED_MEMORY.is_dir():
        yield warn(_SHM, "there is no /dev/shm: Ray keeps objects on disk", f"sudo mount -t tmpfs tmpfs {SHARED_MEMORY}")
        return
    usage = shutil.disk_usage(SHARED_MEMORY)
    if usage.free * MEMORY_SHARE >= wanted:
        yield good(_SHM, f"{gib(usage.free)} free in /dev/shm, the nodes' object stores want {gib(wanted)}")
        return
    size = -(-(usage.used + int(wanted / MEMORY_SHARE)) // _GB)
    yield warn(
        _SHM,
        f"{gib(usage.free)} free in /dev/shm and the nodes' object stores want {gib(wanted)}: each gets its share of that",
        f"sudo mount -o remount,size={size}G {SHARED_MEMORY}",
    )


def docker_disk(info: Mapping[str, Any], pulling: bool) -> Iterator[Finding]:
    """The disk under Docker's folder; `pulling`: images are still to come. `info`: the answer of `docker info`."""
    root = Path(info.get("DockerRootDir") or "/var/lib/docker")
    try:
        usage = shutil.disk_usage(root)
    except OSError:
        return  # the engine is on another machine, or in a virtual one
    mend = "`docker system df` shows what takes room, `docker system prune` frees what nothing uses"
    yield from _disk(root, usage.free, usage.total, _ROOM_FOR_PULL if pulling else _ROOM, mend)


def temporary_disk() -> Iterator[Finding]:
    """The disk that local Ray keeps logs and spilled objects on."""
    folder = Path(tempfile.gettempdir())
    usage = shutil.disk_usage(folder)
    yield from _disk(
        folder, usage.free, usage.total, _ROOM, f"free some room: `du -xsh {folder}/* | sort -h` shows what takes it"
    )


def _disk(folder: Path, free: int, total: int, needed: int, mend: str) -> Iterator[Finding]:
    if free < needed:
        yield warn("disk", f"{gib(free)} free in {folder}, {gib(needed)} are needed", mend)
    elif 1 - free / total > _FULL:
        yield warn("disk", f"{folder} is over {_FULL:.0%} full ({gib(free)} free): Ray then refuses objects on disk", mend)
    else:
        yield good("disk", f"{gib(free)} free in {folder}")


def gpu(project: Project, machine: Machine) -> Iterator[Finding]:
    """GPUs of containers."""
    names = ", ".join(node.hostname for node in project.plan.nodes if node.gpus)
    toolkit = "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
    if not names:
        return
    if machine.gpu:
        used = "reserved for" if wants_gpu(project, machine) else "host.gpu is false, so not used by"
        yield good("GPU", f"Docker has the nvidia runtime; GPUs {used} {names}")
    elif project.config.host.gpu is True:
        mend = f"install the NVIDIA container toolkit, then {toolkit}; or {override('host.gpu')}=auto"
        yield bad("GPU", f"host.gpu is true, but Docker has no nvidia runtime: {names} can't start", mend)
    elif project.config.host.gpu == "auto" and Path("/dev/nvidiactl").exists():
        mend = f"install the NVIDIA container toolkit, then {toolkit}"
        yield warn("GPU", f"this machine has one, but Docker has no nvidia runtime: {names} gets none", mend)
    else:
        yield good("GPU", f"none here: {names} comes up as a plain node with 0 GPUs")
