"""Scenarios `address`, `token` and `versions`: what can be said of a cluster before anything connects to it."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import replace

from ws.errors import EnvironmentProblem, Inconclusive
from ws.node.secret import Secret
from ws.verify.outside_cluster import PORTS, Address, Finding, Outside, is_loopback
from ws.verify.outside_local import NO_TOKEN, Credentials
from ws.verify.outside_refusal import Versions, cause_of_refusal, our_versions, version_causes
from ws.verify.scenarios.looking import in_words
from ws.verify.verdict import Cause, Check, Recorder, Verdict

_WORDS = {
    "gcs": "a GCS",
    "client": "a Ray Client server",
    "dashboard": "a Ray dashboard",
    "health": "a health server",
    "http": "an HTTP server",
    "grpc": "a gRPC server of another kind",
    "unknown": "something that is no Ray",
}


# address


def check_address(outside: Outside, record: Recorder) -> None:
    address = outside.address
    how = "resolve the name, connect, from here; several times, where nobody answers"
    with record.check(f"{address.host}:{address.port} is open", how) as check:
        finding = outside.look()
        outside.found = {address.target: finding}
        if finding["outcome"] not in ("unresolved", "unreachable"):
            outside.found.update(outside.look_around())
        if finding["outcome"] == "open":
            check.passed(f"{in_words(finding)}; {finding['seconds'] * 1000:.0f} ms")
        else:
            check.failed(in_words(finding), _closed(outside, finding))
    if check.verdict is not Verdict.PASS:
        outside.blocked = f"nothing is reached at {address}"
        return
    _check_protocol(outside, record, finding)


def _closed(outside: Outside, finding: Finding) -> Cause:
    address = outside.address
    if finding["outcome"] == "unresolved":
        return Cause(
            "name-unknown",
            f"the name {address.host} does not resolve here",
            f"use an address, or give this machine an entry for {address.host} in /etc/hosts (a container: `extra_hosts`)",
        )
    if finding["outcome"] == "unreachable":
        return Cause(
            "host-unreachable",
            f"{address.host} can't be reached from here: {finding['detail']}",
            f"`ip route get {finding['ip']}` shows which way packets would take",
        )
    what = f"nobody answers at {address.host}:{address.port} ({finding['detail']}){_also(outside)}"
    right = _right_address(outside)
    remedy = f"use {right}" if right else "start the cluster, publish this port, or open the firewall for it"
    return Cause("entry-dead", what, remedy)


def _check_protocol(outside: Outside, record: Recorder, finding: Finding) -> None:
    address, speaks = outside.address, str(finding["speaks"])
    wanted = "Ray Client" if address.kind == "client" else "the GCS"
    with record.check(f"{wanted} answers there", "HTTP, and raw gRPC calls of both protocols") as check:
        if finding.get("silent"):
            outside.blocked = f"at {address} there is no answer"
            check.failed(f"it accepts and does not answer ({finding['detail']})", _silent(outside, finding))
            return
        evidence = f"{_WORDS[speaks]} ({finding['detail']})"
        if speaks == address.kind:
            check.passed(evidence)
            return
        outside.blocked = f"at {address} there is {_WORDS[speaks]}"
        check.failed(evidence, _wrong_port(outside, speaks, str(finding["detail"])))


def _silent(outside: Outside, finding: Finding) -> Cause:
    place = f"{outside.address.host}:{outside.address.port}"
    what = f"{place} accepts and says nothing: what listens there is paused, hanging or overloaded ({finding['detail']})"
    remedy = (
        f"look at what listens at {place}: `docker ps` shows a container that is paused, `top` an overloaded machine, "
        "and the head's logs what it is at; start it anew if it hangs"
    )
    return Cause("entry-dead", what, remedy)


def _wrong_port(outside: Outside, speaks: str, detail: str) -> Cause:
    address, right = outside.address, _right_address(outside)
    place = f"{address.host}:{address.port}"
    if address.kind == "client" and speaks == "gcs":
        remedy = (
            f"use {right}" if right else f"use Ray Client's port, 10001 by default; on a node, `ws verify {place}` will do"
        )
        return Cause(
            "wrong-port-gcs", f"{place} is the port of the GCS, and was given as Ray Client's{_also(outside)}", remedy
        )
    if address.kind == "gcs" and speaks == "client":
        what = f"{place} is the port of Ray Client, and was given as that of the GCS{_also(outside)}"
        return Cause("wrong-port-client", what, f"use ray://{place}{f', or {right}' if right else ''}")
    remedy = f"use {right}" if right else "look which port Ray listens at: 10001 for Ray Client, 6379 for the GCS by default"
    return Cause("wrong-port", f"at {place} there is {_WORDS[speaks]}: {detail}{_also(outside)}", remedy)


def _right_address(outside: Outside) -> str:
    """The address of the wanted kind that was found on the same host; nobody knows that it is of the same cluster."""
    others = [target for target in outside.beside(outside.address.kind) if target != outside.address.target]
    if not others:
        return ""
    return f"{Address(outside.address.kind, *others[0])} if that is the cluster you mean (it may be another one's)"


def _also(outside: Outside) -> str:
    """What else of Ray was found on the host."""
    others = [
        f"{_WORDS[kind]} at {host}:{port}"
        for kind in PORTS
        for host, port in outside.beside(kind)
        if (host, port) != outside.address.target
    ]
    return f"; on the same host, of this or of another cluster: {', '.join(others)}" if others else ""


# token


def check_token(outside: Outside, record: Recorder) -> None:
    finding = outside.found[outside.address.target]
    if finding["token"] == "off":  # noqa: S105
        _check_openness(outside, record)
        # A client that sends a token to a cluster without any need not be understood.
        outside.credentials = replace(outside.credentials, secret=Secret())
        return
    with record.check("the cluster takes our token", f"a call with {outside.credentials.source}") as check:
        _judge_ours(outside, check, str(finding["token"]))
    made_up = Credentials(Secret(secrets.token_hex(32)), "a made-up token")
    for credentials, wanted in ((NO_TOKEN, "missing"), (made_up, "wrong")):
        with record.check(f"who comes with {credentials.source} is refused", "the same call") as check:
            seen = outside.look(credentials)
            if seen["token"] == wanted:
                check.passed(f"refused ({seen['detail']})")
            elif seen["token"] is None:
                check.unseen(f"no clear answer: {in_words(seen)}")
            else:
                check.failed(f"let in: {in_words(seen)}", _open_door(outside))


def _check_openness(outside: Outside, record: Recorder) -> None:
    with record.check("who has no token is refused", "a call without a token") as check:
        if is_loopback(outside.address.host):
            check.passed("let in: the cluster asks for no token. This address is loopback's; let no other lead there")
        elif outside.allow_no_token:
            check.passed(
                "let in: the cluster asks for no token, which --allow-no-token allows; whoever reaches it is let in"
            )
        else:
            check.failed("let in: the cluster asks for no token", _open_door(outside))


def _open_door(outside: Outside) -> Cause:
    return Cause(
        "token-off",
        f"whoever reaches {outside.address} can run code in the cluster, without a token",
        "start every node with RAY_AUTH_MODE=token and the same RAY_AUTH_TOKEN_PATH, or publish the port on loopback alone; "
        "where the network is its only guard on purpose: `ws verify --allow-no-token`",
    )


def _judge_ours(outside: Outside, check: Check, judged: str) -> None:
    source = outside.credentials.source
    if judged == "right":
        check.passed(f"{source} is right")
    elif judged == "wrong":
        outside.blocked = "the cluster refuses the token"
        remedy = (
            "give the cluster's own: `--token-file F`, or RAY_AUTH_TOKEN_PATH; for a cluster of `ws up` it is in .ws/token"
        )
        check.failed("refused", Cause("token-wrong", f"the cluster refuses {source}", remedy))
    elif judged == "missing":
        outside.blocked = "the cluster wants a token, and there is none"
        remedy = (
            "give it by `--token-file F`, or RAY_AUTH_TOKEN_PATH; for a cluster of `ws up` it is in its folder's .ws/token, "
            "which is sent unasked only to this machine's own addresses"
        )
        what = (
            "the cluster asks for a token, and none was given: no --token-file, no RAY_AUTH_TOKEN(_PATH), no .ws/token here"
        )
        check.failed("refused", Cause("token-missing", what, remedy))
    else:
        check.unseen("no clear answer to whether it takes the token; the next scenarios will tell")


# versions


def check_versions(outside: Outside, record: Recorder) -> None:
    ours = our_versions()
    how = "what its GCS or the dashboard given tells, else what Ray says to one who connects"
    with record.check("Ray and Python are those of this environment", how) as check:
        theirs = _told_versions(outside) or _versions_by_connecting(outside)
        causes = version_causes(theirs, str(outside.address))
        evidence = f"the cluster has Ray {theirs['ray']}, Python {theirs['python']}"
        if causes:
            outside.blocked = "the versions differ"
            check.failed(f"{evidence}; here: Ray {ours['ray']}, Python {ours['python']}", *causes)
        else:
            check.passed(evidence)


def _told_versions(outside: Outside) -> Versions | None:
    """What is told to one that is no client of the cluster yet. A dashboard nearby may be another cluster's."""
    told = outside.found[outside.address.target]["versions"]
    if told and told["python"]:
        return dict(told)
    if outside.given_dashboard is None:
        return None
    with contextlib.suppress(EnvironmentProblem):
        return outside.dashboard().cluster_versions()
    return None


def _versions_by_connecting(outside: Outside) -> Versions:
    outlook = outside.watched()
    outlook.await_connection()
    if outlook.connection:
        return {"ray": outlook.connection.ray, "python": outlook.connection.python}
    refusal = cause_of_refusal(outlook.refused or outlook.lost, str(outside.address))
    if refusal.versions is None:
        raise Inconclusive("the cluster's versions can't be seen", refusal.cause.what)
    return refusal.versions
