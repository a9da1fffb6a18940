"""A transfer's events in words; paths may hold what a terminal obeys, so everything from outside is made visible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ws.cli import units
from ws.errors import CheckFailed, WsError
from ws.transfer.events import Finished, Planned, Progress, Receipt, Retry, Started

_HASHES = {"sha256": "SHA-256", "blake3": "BLAKE3"}


def plain(text: str) -> str:
    """The text with escapes in place of control characters and of bytes that are no UTF-8, on one line."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def started(event: Started) -> str:
    what = f" ({units.counted(event.files, 'file')}, {units.size(event.size)})" if event.files else ""
    return f"{plain(event.source)}{what} to {names(event.recipients)}, transfer {event.transfer[:8]}"


def names(nodes: tuple[str, ...], most: int = 6) -> str:
    """All of them, or the first few and how many there are."""
    shown = ", ".join(plain(node) for node in nodes[:most])
    return shown if len(nodes) <= most else f"{shown} … ({len(nodes)})"


def planned(event: Planned) -> Iterator[str]:
    for route in event.routes:
        way = f"; {' → '.join(plain(stop) for stop in route.path)}" if len(route.path) > 2 else ""
        yield f"{plain(route.recipient)}: {plane(route.plane)}{f', {plain(route.why)}' if route.why else ''}{way}"


def plane(name: str) -> str:
    """The plane as people call it."""
    return {"ray": "object store"}.get(name, name)


def progress(event: Progress) -> str:
    there = event.done + event.coming
    parts = [f"{units.size(there)} of {units.size(event.total)} ({percent(there, event.total)})"]
    if event.rate:
        parts.append(units.rate(event.rate))
    return ", ".join([*parts, *filter(None, [units.left(event.eta)])])


def percent(done: int, total: int) -> str:
    """Rounded down: 100 % is all of it."""
    return f"{100 if total == 0 else done * 100 // total} %"


def retry(event: Retry) -> str:
    pause = f" in {event.pause:.1f} s" if event.pause else ""
    return f"again{pause} (attempt {event.attempt}): {plain(event.why)}"


def has_it(recipient: str, receipt: Receipt) -> str:
    """One line for a recipient that has it."""
    sent = receipt.bytes - receipt.had
    took = f"{units.size(receipt.bytes)} in {units.seconds(receipt.seconds)}"
    speed = f" ({units.rate(sent / receipt.seconds)}, {plane(receipt.plane)})" if sent and receipt.seconds else ""
    line = f"{plain(recipient)}: {took}{speed}"
    if receipt.had:
        whole = receipt.had >= receipt.bytes
        line += ", all of it was there before" if whole else f", {units.size(receipt.had)} of it was there before"
    if receipt.retries:
        line += f", {retries(receipt.retries)}"
    return f"{line}: {plain(receipt.place)}" if receipt.place else line


def hashed(algorithm: str, root_hash: str) -> str:
    return f"{_HASHES.get(algorithm, 'hash')} {root_hash}"


def receipt_hash(receipt: Receipt) -> str:
    """With what it takes to check it."""
    chunks = f", in chunks of {units.size(receipt.chunk_size)}" if receipt.chunks > 1 and receipt.chunk_size else ""
    return hashed(receipt.algorithm, receipt.root_hash) + chunks


def keeps(recipient: str, receipt: Receipt, most: int = 5) -> str:
    """What a recipient did not let go of."""
    count = max(receipt.kept_count, len(receipt.kept))
    listed = ", ".join(plain(name) for name in receipt.kept[:most]) + (" …" if count > most else "")
    verb = "differs and was" if count == 1 else "differ and were"
    return f"{plain(recipient)}: {units.counted(count, 'file')} there {verb} kept: {listed}; --overwrite replaces them"


def retries(count: int) -> str:
    return f"{count} {'retry' if count == 1 else 'retries'}"


def total(event: Finished) -> str:
    """One line for all recipients together."""
    count = len(event.done) + len(event.failed)
    share = f"{len(event.done)} of {units.counted(count, 'recipient')}"
    took = f"in {units.seconds(event.seconds)} ({units.rate(event.rate)} in all)"
    return f"{share} {'has' if len(event.done) == 1 else 'have'} it, {took}, {retries(event.retries)}"


def error(problem: Mapping[str, object], of: str = "") -> WsError:
    """A problem as the error that the command line shows; `of`: the recipient."""
    what, why, mend = (plain_lines(str(problem.get(key) or "")) for key in ("what", "why", "mend"))
    return CheckFailed(f"{plain(of)}: {what}" if of else what, why or None, mend or None)


def plain_lines(text: str) -> str:
    return "\n".join(plain(line) for line in text.splitlines())
