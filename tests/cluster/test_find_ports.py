from __future__ import annotations

import pytest

from ws.cluster.endpoint import Endpoint
from ws.cluster.find_environment import find_by_environment
from ws.cluster.find_ports import MOST_HOSTS, USUAL_PORTS, hosts_of, sweep
from ws.cluster.hints import Way
from ws.errors import UsageError


def test_this_machine_is_swept_first() -> None:
    found = sweep(["ray-cpu"], [9000])
    assert found[: len(USUAL_PORTS) + 1] == [Endpoint("127.0.0.1", port) for port in (9000, *USUAL_PORTS)]
    assert found[len(USUAL_PORTS) + 1 :] == [Endpoint("ray-cpu", port) for port in (9000, *USUAL_PORTS)]


def test_nothing_is_asked_twice() -> None:
    found = sweep(["127.0.0.1", "a", "a"], [8265])
    assert len(found) == len(set(found)) == 2 * len(USUAL_PORTS)


@pytest.mark.parametrize("host", ["", "gpu-box:8265", "http://gpu-box", "a b", "[::1]", "-x"])
def test_what_is_no_host_is_wrong_use(host: str) -> None:
    with pytest.raises(UsageError, match="is no host"):
        sweep([host], [])
    assert sweep(["::1", "fe80::1%eth0", "ray_cpu.lan"], [])


def test_the_hosts_of_networks_each_once() -> None:
    assert hosts_of(["10.0.0.0/30", "10.0.0.1/31", "10.0.0.2/32"]) == ["10.0.0.1", "10.0.0.2", "10.0.0.0"]
    assert len(hosts_of(["10.0.0.0/22"])) == MOST_HOSTS - 2


@pytest.mark.parametrize("cidrs", [["10.0.0.0/21"], ["10.0.0.0/22", "10.1.0.0/24"], ["::/0"], ["0.0.0.0/0"]])
def test_too_many_hosts_are_refused_before_any_is_asked(cidrs: list[str]) -> None:
    with pytest.raises(UsageError, match="too many to ask each"):
        hosts_of(cidrs)


@pytest.mark.parametrize("cidr", ["", "ray-cpu", "10.0.0.0/33"])
def test_what_is_no_network_is_refused(cidr: str) -> None:
    with pytest.raises(UsageError, match="is no network"):
        hosts_of([cidr])


@pytest.mark.parametrize("value", ["ray://head:10001", "head:10001", "http://head:10001"])
def test_ray_address_with_and_without_a_scheme(value: str) -> None:
    (hint,) = find_by_environment({"RAY_ADDRESS": value})
    assert (hint.way, hint.endpoints, hint.claims) == (Way.address, (Endpoint("head", 10001),), False)


@pytest.mark.parametrize("environ", [{}, {"RAY_ADDRESS": ""}, {"RAY_ADDRESS": "auto"}, {"RAY_ADDRESS": "local"}])
def test_a_ray_address_that_names_no_place(environ: dict[str, str]) -> None:
    assert find_by_environment(environ) == []
