"""What Docker publishes, and in which networks containers are, against the config. Part of the scenario isolation."""

from __future__ import annotations

from collections.abc import Iterable

from ws.verify.scenarios.looking import absence, container, listed, made_anew
from ws.verify.site import Expected, Seen, Site
from ws.verify.verdict import Cause, Recorder

_WORLD = ("0.0.0.0:", ":::", "[::]:")


def check_published(site: Site, record: Recorder) -> None:
    """Checks that Docker publishes exactly what the config says, and that no container is in a network too many."""
    nodes = [node for node in site.expected.values() if node.role != "joiner"]
    for node in nodes:
        _check_bindings(site, record, node)
    _check_world(site, record)
    for node in nodes:
        _check_networks(site, record, node)
    _check_strangers(site, record)


def _check_bindings(site: Site, record: Recorder, node: Expected) -> None:
    with record.check(
        f"{node.name} publishes what the config says", f"the bindings of `docker inspect {node.container}`"
    ) as check:
        seen = site.seen(node.name)
        gone = absence(node, seen)
        if gone or seen is None:
            check.failed(gone.what, gone) if gone else check.unseen("it is gone")
            return
        extra, missing = sorted(seen.published - node.published), sorted(node.published - seen.published)
        if not extra and not missing:
            check.passed(f"{len(seen.published)} bindings on {listed(sorted(_addresses(seen.published))) or 'no address'}")
            return
        causes = [_too_much(node, extra)] if extra else []
        causes += [not_published(node, missing)] if missing else []
        check.failed("; ".join(cause.what for cause in causes), *causes)


def _addresses(bindings: Iterable[str]) -> set[str]:
    return {binding.rpartition(":")[0] for binding in bindings}


def port(binding: str) -> int:
    """The port of `address:port`."""
    return int(binding.rpartition(":")[2])


def _too_much(node: Expected, extra: list[str]) -> Cause:
    what = f"{node.name} is published on {_some(extra)}, which the config does not say"
    remedy = f"{made_anew(node)}; {_field(node, extra)} in config.yaml says what is published"
    return Cause("published-too-much", what, remedy)


def bound(site: Site, bindings: Iterable[str]) -> set[int]:
    """The ports that lead in from the host's address as the test network knows it."""
    return {port(one) for one in bindings if one.startswith((f"{site.host_address}:", *_WORLD))}


def not_published(node: Expected, missing: list[str]) -> Cause:
    """That Docker does not publish these bindings of a node."""
    block = any(port(binding) not in node.entries.values() for binding in missing) and node.role != "health"
    what = f"{node.name} should be published on {_some(missing)}, and is not"
    remedy = f"{made_anew(node)}; {_field(node, missing)} in config.yaml says what is published"
    return Cause("block-not-published" if block else "entry-dead", what, remedy)


def _field(node: Expected, bindings: list[str]) -> str:
    if node.role == "health":
        return "services.health.port with network.publish_entries"
    entries = any(port(binding) in node.entries.values() for binding in bindings)
    blocks = any(port(binding) not in node.entries.values() for binding in bindings)
    return " and ".join(["network.publish_entries"] * entries + ["network.publish_blocks"] * blocks)


def _some(bindings: list[str]) -> str:
    more = f" and {len(bindings) - 4} more" if len(bindings) > 4 else ""
    return listed(bindings[:4]) + more


def _check_world(site: Site, record: Recorder) -> None:
    with record.check("nothing is open to other machines unless the config says so", "bindings on all addresses") as check:
        seen = {name: site.seen(name) for name in site.expected}
        bindings = {name: one.published for name, one in seen.items() if one}
        if not any(bindings.values()):
            check.unseen("Docker shows no binding at all")
            return
        everywhere = {name: sorted(one for one in there if one.startswith(_WORLD)) for name, there in bindings.items()}
        causes = [
            _too_much(site.expected[name], extra)
            for name, there in everywhere.items()
            if (extra := [one for one in there if one not in site.expected[name].published])
        ]
        total, world = sum(map(len, bindings.values())), sum(map(len, everywhere.values()))
        others = sorted(set().union(*(_addresses(there) for there in bindings.values())))
        evidence = f"{world} of {total} bindings on all addresses of the host; bindings are on {listed(others)}"
        check.failed(evidence, *causes) if causes else check.passed(evidence)


def _check_networks(site: Site, record: Recorder, node: Expected) -> None:
    with record.check(
        f"{node.name} is in its own network alone", f"the networks of `docker inspect {node.container}`"
    ) as check:
        seen = container(site, check, node)
        if seen is None:
            return
        others = sorted(set(seen.addresses) - {node.network})
        evidence = listed(f"{network}: {address}" for network, address in seen.addresses.items())
        if others:
            what = f"{node.container} is in {listed(others)}, too, and so reaches what is there without the host"
            check.failed(evidence, Cause("not-isolated", what, f"`docker network disconnect {others[0]} {node.container}`"))
        elif node.network not in seen.addresses and seen.state == "running":
            what = f"{node.container} is not in {node.network}"
            check.failed(what, Cause("not-isolated", what, f"`docker network connect {node.network} {node.container}`"))
        else:
            check.passed(evidence or f"{node.network}, while it is {seen.state}")


def _check_strangers(site: Site, record: Recorder) -> None:
    with record.check("no container leads from one network into the other", "all containers of both networks") as check:
        networks = {node.network for node in site.expected.values()}
        strangers = site.strangers()
        bridges = {name: seen for name, seen in strangers.items() if len(networks & set(seen.addresses)) > 1}
        evidence = "; ".join(_stranger(name, seen) for name, seen in strangers.items()) or "only those of the config"
        if not bridges:
            check.passed(evidence)
            return
        first, second = sorted(networks)[:2]
        causes = [
            Cause(
                "not-isolated",
                f"the container {name} is in {first} and in {second}",
                f"`docker network disconnect {first} {name}`",
            )
            for name in bridges
        ]
        check.failed(evidence, *causes)


def _stranger(name: str, seen: Seen) -> str:
    return f"not of the config: {name} (hostname {seen.hostname}, {seen.state}) in {listed(seen.addresses)}"
