"""Prometheus metrics of transfers, counted from their events. A subscriber of a Stream; for several threads.

Text exposition format 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import singledispatchmethod

from ws.transfer import events
from ws.transfer.events import Event

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters over the life of this process, and what runs now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes: Counter[_Labels] = Counter()
        self._chunks: Counter[_Labels] = Counter()
        self._failures: Counter[_Labels] = Counter()
        self._ended: Counter[_Labels] = Counter()
        self._retries: Counter[_Labels] = Counter({(): 0})
        self._running: dict[str, _Running] = {}

    def record(self, event: Event) -> None:
        """Count an event."""
        with self._lock:
            self._count(event)

    def text(self) -> str:
        """What a Prometheus server reads."""
        with self._lock:
            return "\n".join(self._lines()) + "\n"

    @singledispatchmethod
    def _count(self, event: Event) -> None:
        """An event that counts nothing."""

    @_count.register
    def _(self, event: events.Started) -> None:
        self._running[event.transfer] = _Running()

    @_count.register
    def _(self, event: events.Planned) -> None:
        self._of(event).planes.update({route.recipient: route.plane for route in event.routes})

    @_count.register
    def _(self, event: events.Progress) -> None:
        running = self._of(event)
        running.rates[event.recipient] = event.rate
        known = running.done.get(event.recipient)  # the first tells what was in place, which is not sent
        if known is not None and event.done > known:
            self._sent(running, event.recipient, event.done - known)
        running.done[event.recipient] = max(event.done, known or 0)

    @_count.register
    def _(self, event: events.Retry) -> None:
        self._retries[()] += 1
        self._of(event).retries[event.recipient] += 1

    @_count.register
    def _(self, event: events.RecipientDone) -> None:
        running, receipt = self._of(event), event.receipt
        running.planes[event.recipient] = receipt.plane
        self._sent(running, event.recipient, max(0, receipt.bytes - receipt.had - running.sent[event.recipient]))
        self._chunks[_label(plane=receipt.plane)] += receipt.chunks
        self._retries[()] += max(0, receipt.retries - running.retries[event.recipient])  # those within an attempt
        running.rates.pop(event.recipient, None)

    @_count.register
    def _(self, event: events.RecipientFailed) -> None:
        self._failures[_label(code=event.problem.get("code", "unknown"))] += 1
        self._of(event).rates.pop(event.recipient, None)

    @_count.register
    def _(self, event: events.Paused) -> None:
        running = self._of(event)
        running.paused = True
        running.rates.clear()

    @_count.register
    def _(self, event: events.Resumed) -> None:
        self._of(event).paused = False

    @_count.register
    def _(self, event: events.Finished) -> None:
        self._end(event, event.state)

    @_count.register
    def _(self, event: events.Cancelled) -> None:
        self._end(event, "cancelled")

    def _of(self, event: Event) -> _Running:
        return self._running.setdefault(event.transfer, _Running())

    def _sent(self, running: _Running, recipient: str, count: int) -> None:
        running.sent[recipient] += count
        self._bytes[_label(plane=running.planes.get(recipient, "unknown"))] += count

    def _end(self, event: Event, state: str) -> None:
        self._running.pop(event.transfer, None)
        self._ended[_label(state=state)] += 1

    def _lines(self) -> Iterator[str]:
        paused = sum(running.paused for running in self._running.values())
        now = {_label(state="running"): len(self._running) - paused, _label(state="paused"): paused}
        rate = sum(sum(running.rates.values()) for running in self._running.values())
        yield from _family("ws_transfer_bytes_total", "counter", "Bytes that recipients received and verified.", self._bytes)
        yield from _family("ws_transfer_chunks_total", "counter", "Chunks of completed recipients.", self._chunks)
        yield from _family("ws_transfer_retries_total", "counter", "Attempts after a failure.", self._retries)
        yield from _family("ws_transfer_failures_total", "counter", "Recipients that failed, by cause.", self._failures)
        yield from _family("ws_transfer_rate_bytes_per_second", "gauge", "What all recipients receive now.", {(): rate})
        yield from _family("ws_transfers", "gauge", "Transfers that have not ended.", now)
        yield from _family("ws_transfers_total", "counter", "Transfers that have ended, by how.", self._ended)


class _Running:
    """What is known of a transfer until it ends, by recipient: bytes it has, bytes counted as sent, rate, plane,
    retries that were told."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.sent: Counter[str] = Counter()
        self.rates: dict[str, float] = {}
        self.planes: dict[str, str] = {}
        self.retries: Counter[str] = Counter()
        self.paused = False


def _label(**labels: str) -> _Labels:
    return tuple(labels.items())


def _family(name: str, kind: str, text: str, values: Mapping[_Labels, float]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in sorted(values.items()):
        inside = ",".join(f'{key}="{_escaped(of)}"' for key, of in labels)
        yield f"{name}{f'{{{inside}}}' if inside else ''} {value:.15g}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
