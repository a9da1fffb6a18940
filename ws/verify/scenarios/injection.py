"""Scenario injection: what config.yaml says has come into each container, and whitelist and hostnames agree."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping

from ws.errors import Inconclusive, WsError
from ws.verify.scenarios import Scenario
from ws.verify.scenarios.looking import absence, container, for_each, listed, made_anew, running
from ws.verify.site import Expected, Seen, Site
from ws.verify.verdict import Cause, Recorder

_DECIDING = ("HEAD_ADDRESS", "WS_NODE_NAME", "WS_NODE_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_TOKEN")
"""Variables that change what a node does, even where the config gives none of them."""
_TELLING = ("HEAD_WHITELIST", "HEALTH_URL", "HEAD_ADDRESS", "HEAD_ADDRESS_CFG")
_SHOWN = 60  # characters of a value
_HIDDEN = "***"
_SECRET = re.compile(r"SECRET|PASSWORD|PASSWD|(^|_)(TOKEN|API_?KEY|ACCESS_KEY|PRIVATE_KEY)$", re.IGNORECASE)
_PLACE_OF_SECRET = re.compile(r"_(FILE|PATH|DIR)$", re.IGNORECASE)
_PROGRAM_LIMIT = 20.0  # seconds

# Looks where others could read the token; says the places, never the token. Python 3.9, standard library.
_PLACES = """
import glob, json, os
path = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
try:
    token = open(path, "rb").read().strip()
except OSError as error:
    print(json.dumps({"trouble": "RAY_AUTH_TOKEN_PATH=%s can't be read (%s)" % (path, error.strerror)}))
    raise SystemExit
variables, lines, places = len(os.environ), 0, []
places += ["variable " + os.fsdecode(name) for name, value in os.environb.items() if token and token in value]
for line in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        words = open(line, "rb").read()
    except OSError:
        continue
    lines += 1
    if token and token in words:
        places.append("command line of process " + line.split("/")[2])
print(json.dumps({"places": places, "variables": variables, "lines": lines, "empty": not token}))
"""


def _run(site: Site, record: Recorder) -> None:
    nodes = [node for node in site.expected.values() if node.role != "joiner"]
    for node in nodes:
        _check_environment(site, record, node)
    for node in nodes:
        _check_hostname(site, record, node)
    _check_whitelist(site, record)
    for node in nodes:
        if node.role == "candidate":
            _check_own_whitelist(site, record, node)
    places = for_each([node.name for node in running(site, nodes)], lambda name: _token_places(site, name))
    for node in nodes:
        _check_token(site, record, node, places.get(node.name))


# The environment


def _check_environment(site: Site, record: Recorder, node: Expected) -> None:
    what = f"{node.name} has the environment that the config says"
    with record.check(what, f"`docker inspect {node.container}`, variable by variable") as check:
        seen = container(site, check, node)
        if seen is None:
            return
        wrong = list(_differences(node.environment, seen.environment))
        if not wrong:
            told = listed(f"{name}={_quoted(seen.environment[name])}" for name in _TELLING if name in seen.environment)
            check.passed(f"{len(node.environment)} variables equal; {told or listed(node.environment)}")
            return
        check.failed("\n".join(wrong), *(_differs(node, difference) for difference in wrong))


def _differences(should: Mapping[str, str], really: Mapping[str, str]) -> Iterator[str]:
    for name, value in should.items():
        if name not in really:
            yield f"{name} is not set, should be {_HIDDEN if looks_secret(name) else _quoted(value)}"
        elif really[name] != value:
            found, wanted = (_HIDDEN, "another") if looks_secret(name) else _around_difference(really[name], value)
            yield f"{name} is {found}, should be {wanted}"
    for name in _DECIDING:
        if name in really and name not in should:
            value = _HIDDEN if looks_secret(name) else _quoted(really[name])
            yield f"{name} is {value}, should not be set"


def looks_secret(name: str) -> bool:
    """Whether a variable's name is that of a secret; the same as of the configuration's, which a site knows nothing of."""
    return bool(_SECRET.search(name)) and not _PLACE_OF_SECRET.search(name)


def _around_difference(found: str, wanted: str) -> tuple[str, str]:
    """Two values for people; of long ones the part from shortly before where they differ."""
    if max(len(found), len(wanted)) <= _SHOWN:
        return _quoted(found), _quoted(wanted)
    same = next(
        (place for place, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted))
    )
    start = max(0, same - 15)
    return _quoted(found[start:], start > 0), _quoted(wanted[start:], start > 0)


def _quoted(value: str, cut: bool = False) -> str:
    end = "…" if len(value) > _SHOWN else ""
    return f'"{"…" if cut else ""}{value[:_SHOWN]}{end}"'


def _differs(node: Expected, difference: str) -> Cause:
    file = "compose.yaml" if node.inside else "cluster-test.compose.yaml"
    remedy = f"{made_anew(node)}; what `ws render --check` finds changed by hand in {file} belongs into config.yaml"
    return Cause("environment-differs", f"{node.name}: {difference}", remedy)


# Names


def _check_hostname(site: Site, record: Recorder, node: Expected) -> None:
    with record.check(f"{node.name} is called so", f"the hostname of the container {node.container}") as check:
        seen = container(site, check, node)
        if seen is None:
            return
        if seen.hostname == node.name:
            check.passed(f"hostname {seen.hostname}")
        else:
            what = f"the container {node.container} has the hostname {seen.hostname}, the config says {node.name}"
            key = "not-in-whitelist" if node.name in site.whitelist else "environment-differs"
            remedy = f"take `hostname: {seen.hostname}` out of the Compose file; {made_anew(node)}"
            check.failed(what, Cause(key, what, remedy))


def _check_whitelist(site: Site, record: Recorder) -> None:
    with record.check("the whitelist names nodes that there are", "nodes.head_whitelist against hostnames") as check:
        seen = {node.name: site.seen(node.name) for node in site.expected.values()}
        ours = [node.name for node in site.expected.values() if node.role in ("candidate", "worker")]
        elsewhere = {name for one in seen.values() if one for name in one.extra_hosts}
        unknown = [name for name in site.whitelist if name not in ours and (name in seen or name not in elsewhere)]
        if not unknown:
            check.passed(f"whitelist {listed(site.whitelist)}; nodes {listed(ours)}")
            return
        causes = [_unknown(name, ours, site.expected) for name in unknown]
        check.failed(f"whitelist {listed(site.whitelist)}; nodes {listed(ours)}", *causes)


def _unknown(name: str, ours: list[str], expected: Mapping[str, Expected]) -> Cause:
    if name in expected:
        what = (
            f"the whitelist names {name}, which is the {expected[name].role} node, outside the main network or no Ray node"
        )
        return Cause("not-in-whitelist", what, f"take {name} out of nodes.head_whitelist in config.yaml, then `ws up`")
    close = difflib.get_close_matches(name, ours, 1)
    meant = f"write {close[0]} instead of {name}" if close else f"write one of {listed(ours)} instead of {name}"
    what = f"the whitelist names {name}, and no node has this hostname (there are {listed(ours)})"
    remedy = f"{meant} in nodes.head_whitelist of config.yaml, or add it to network.external_nodes; then `ws up`"
    return Cause("not-in-whitelist", what, remedy)


def _check_own_whitelist(site: Site, record: Recorder, node: Expected) -> None:
    what = f"{node.name} finds itself in its whitelist"
    with record.check(what, f"HEAD_WHITELIST and hostname of the container {node.container}") as check:
        seen = container(site, check, node)
        if seen is None:
            return
        own = _names(seen)
        evidence = f"hostname {seen.hostname}, HEAD_WHITELIST {listed(own) or 'empty'}"
        if seen.hostname in own:
            check.passed(evidence)
            return
        remedy = f"make nodes.head_whitelist in config.yaml and the hostname the same; {made_anew(node)}"
        check.failed(evidence, Cause("not-in-whitelist", f"{node.container}: {evidence}", remedy))


def _names(seen: Seen) -> list[str]:
    return [name.strip() for name in seen.environment.get("HEAD_WHITELIST", "").split(",") if name.strip()]


# The token


def _token_places(site: Site, name: str) -> Mapping[str, object]:
    done = site.run(name, ["python3", "-c", _PLACES], timeout=_PROGRAM_LIMIT)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise Inconclusive(f"{name} can't be looked through", (done.stderr or done.stdout).strip()[-300:]) from None
    return answer if isinstance(answer, dict) else {}


def _check_token(site: Site, record: Recorder, node: Expected, found: Mapping[str, object] | WsError | None) -> None:
    what = f"the token is in a file of {node.name}, and nowhere that others look"
    with record.check(what, f"variables and command lines of the processes in {node.container}") as check:
        gone = absence(node, site.seen(node.name))
        if gone:
            check.failed(gone.what, gone)
        elif isinstance(found, WsError):
            raise found
        elif found is None:
            check.unseen("it came up only now")
        elif "trouble" in found or found.get("empty"):
            what = f"{node.name}: {found.get('trouble') or 'the token file is empty'}"
            remedy = f"{made_anew(node)}, which mounts the token file"
            check.failed(what, Cause("token-missing", what, remedy))
        elif places := found.get("places"):
            assert isinstance(places, list)
            what = f"{node.name}: the token stands in {listed(places)}"
            remedy = "hand it over as a file, RAY_AUTH_TOKEN_PATH; then make a new one: `ws down`, remove .ws/token, `ws up`"
            check.failed(what, Cause("environment-differs", what, remedy))
        else:
            check.passed(f"not in {found.get('variables')} variables, nor in {found.get('lines')} command lines")


SCENARIO = Scenario("injection", "The configuration has come into every container", 60.0, _run)
