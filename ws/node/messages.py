"""What candidates, health server and agent tell each other about the lead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ws.node.fields import BadRequest, Body, Fields

HEALTH = "@health"
"""The target of a `Send` that goes to the health server; no node can have this name."""

UNDECIDED, HEAD, WORKER = "undecided", "head", "worker"


@dataclass(frozen=True)
class View:
    """What a candidate believes now.

    Attributes:
        role: "head": this node may run the head, and must stop it at once when it no longer says so; "worker":
            `leader` leads; "undecided": nobody is known to lead.
        address: where the leader's head listens, host:port.
        epoch: that of the leader's lease; 0 for a head that started without a health server.
        reason: one sentence for people; two views that differ in it alone are equal.
    """

    role: str
    leader: str | None
    address: str | None
    epoch: int
    health_up: bool
    reason: str = field(default="", compare=False)


@dataclass(frozen=True)
class Send:
    """One request to be sent: POST `message` to `path`, or GET it where the message is empty.

    The answer, or its absence, comes back through `Election.receive` under `id`. After `timeout` seconds nobody
    waits for it any more.
    """

    target: str
    id: int
    path: str
    message: dict[str, Any]
    timeout: float


@dataclass(frozen=True)
class Leader:
    """Somebody who was said, or says of itself, to lead."""

    name: str
    instance: str
    address: str
    epoch: int


@dataclass(frozen=True)
class Claim:
    """A candidate's question to another one.

    Attributes:
        consent: the sender asks the other to stay away from the lease for `ttl` seconds from now.
        candidates: the whitelist as the sender knows it; consent of only a part of the candidates is worth nothing.
    """

    name: str
    instance: str
    role: str
    epoch: int
    address: str
    ttl: float
    consent: bool
    candidates: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "candidates": list(self.candidates)}

    @staticmethod
    def read(body: Body) -> Claim:
        """Raises BadRequest."""
        fields = Fields(body)
        names = body.get("candidates")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise BadRequest("'candidates' must be a list of names")
        return Claim(
            name=fields.text("name"),
            instance=fields.text("instance"),
            role=_role(fields),
            epoch=fields.whole("epoch"),
            address=fields.text("address"),
            ttl=fields.seconds("ttl"),
            consent=fields.flag("consent"),
            candidates=tuple(names),
        )


@dataclass(frozen=True)
class PeerAnswer:
    """A candidate's answer: itself, whom it takes for the leader (itself, when it is head), and whether it consents."""

    name: str
    instance: str
    role: str
    epoch: int
    leader: str | None
    leader_instance: str | None
    address: str | None
    health_up: bool
    consent: bool
    reason: str

    @property
    def head(self) -> Leader | None:
        """The head that this answer tells of: its sender, or the one whom the sender follows."""
        if self.leader is None or self.address is None:
            return None
        return Leader(self.leader, self.leader_instance or "", self.address, self.epoch)

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    @staticmethod
    def read(body: Body) -> PeerAnswer:
        """Raises BadRequest."""
        fields = Fields(body)
        return PeerAnswer(
            name=fields.text("name"),
            instance=fields.text("instance"),
            role=_role(fields),
            epoch=fields.whole("epoch"),
            leader=_text_or_none(fields, body, "leader"),
            leader_instance=_text_or_none(fields, body, "leader_instance"),
            address=_text_or_none(fields, body, "address"),
            health_up=fields.flag("health_up"),
            consent=fields.flag("consent"),
            reason=fields.text("reason", "", longest=1000),
        )


@dataclass(frozen=True)
class HealthAnswer:
    """The health server's answer to any question about the lease.

    Attributes:
        ok: the request was granted; None for a mere look.
        lease: the one in force.
        expires_in: seconds that it lasts without a renewal.
        ttl: seconds that each renewal gives it; None where the server does not say.
        released: nobody can believe to hold the lease.
    """

    ok: bool | None
    lease: Leader | None
    expires_in: float
    released: bool
    reason: str
    ttl: float | None = None

    @staticmethod
    def read(body: Body, with_outcome: bool) -> HealthAnswer:
        """Raises BadRequest."""
        fields = Fields(body)
        if with_outcome and "ok" not in body:
            raise BadRequest("the field 'ok' is missing")
        lease, left, ttl = None, 0.0, None
        if body.get("lease") is not None:
            if not isinstance(body["lease"], dict):
                raise BadRequest("'lease' must be an object")
            held = Fields(body["lease"])
            lease = Leader(held.text("holder"), held.text("instance"), held.text("address"), held.whole("epoch"))
            left = held.seconds("expires_in") if body["lease"].get("expires_in") else 0.0
            ttl = held.seconds("ttl") if "ttl" in body["lease"] else None
        ok = fields.flag("ok") if with_outcome else None
        return HealthAnswer(ok, lease, left, fields.flag("released"), fields.text("reason", "", longest=1000), ttl)


def _role(fields: Fields) -> str:
    role = fields.text("role")
    if role not in (UNDECIDED, HEAD, WORKER):
        raise BadRequest(f"'role' must be {UNDECIDED}, {HEAD} or {WORKER}")
    return role


def _text_or_none(fields: Fields, body: Body, name: str) -> str | None:
    return None if body.get(name) is None else fields.text(name)
