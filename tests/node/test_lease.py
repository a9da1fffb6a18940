from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ws.node.lease import LARGEST_EPOCH, BookState, LeaseBook, Outcome
from ws.node.lease_store import JournalledBook, LeaseStore

TTL = 10.0


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def book(clock: FakeClock) -> LeaseBook:
    return LeaseBook(clock)


def take(book: LeaseBook, name: str, seen_epoch: int = 0, young: bool = False, instance: str = "1") -> Outcome:
    return book.acquire(name, f"{name}/{instance}", f"{name}:6379", TTL, seen_epoch=seen_epoch, young=young)


def test_the_first_who_asks_gets_it(book: LeaseBook) -> None:
    outcome = take(book, "a")
    assert outcome.ok and outcome.lease and (outcome.lease.holder, outcome.lease.epoch) == ("a", 1)


def test_the_second_is_told_who_holds_it(book: LeaseBook) -> None:
    take(book, "a")
    outcome = take(book, "b")
    assert not outcome.ok and outcome.lease and outcome.lease.holder == "a"
    assert outcome.reason == "a holds it for 10.0 s more"


def test_a_repeated_request_gets_the_same_lease_and_its_full_time(book: LeaseBook, clock: FakeClock) -> None:
    first = take(book, "a")
    clock.now += 4
    again = take(book, "a")
    assert again.ok and again.lease == first.lease and book.expires_in == TTL


def test_one_who_knows_its_own_epoch_starts_anew_so_that_a_late_release_misses(book: LeaseBook) -> None:
    take(book, "a")
    anew = take(book, "a", seen_epoch=1)
    assert anew.lease and anew.lease.epoch == 2
    assert not book.release("a", "a/1", 1).ok
    assert book.current == anew.lease


def test_another_process_of_the_same_name_waits_for_the_end(book: LeaseBook, clock: FakeClock) -> None:
    take(book, "a")
    assert not take(book, "a", instance="2").ok
    clock.now += TTL
    outcome = take(book, "a", instance="2")
    assert outcome.ok and outcome.lease and outcome.lease.epoch == 2


def test_renewals_keep_it(book: LeaseBook, clock: FakeClock) -> None:
    take(book, "a")
    for _ in range(5):
        clock.now += 9
        assert book.renew("a", "a/1", 1).ok
    assert not take(book, "b").ok


def test_a_lease_that_ran_out_can_be_renewed_while_nobody_else_has_it(book: LeaseBook, clock: FakeClock) -> None:
    take(book, "a")
    clock.now += 50
    assert book.current is None
    assert book.renew("a", "a/1", 1).ok and book.current


def test_a_lease_that_was_granted_to_another_cannot_be_renewed(book: LeaseBook, clock: FakeClock) -> None:
    take(book, "a")
    clock.now += TTL
    take(book, "b")
    outcome = book.renew("a", "a/1", 1, "a:6379", TTL)
    assert not outcome.ok and outcome.reason == "epoch 1 is over" and outcome.lease and outcome.lease.holder == "b"


def test_release_frees_it_at_once_and_only_for_its_holder(book: LeaseBook) -> None:
    take(book, "a")
    assert not book.release("b", "b/1", 1).ok
    assert not book.release("a", "a/2", 1).ok
    assert book.release("a", "a/1", 1).ok and book.released
    assert take(book, "b").ok


def test_a_young_candidate_gets_a_released_lease_and_never_one_that_ran_out(book: LeaseBook, clock: FakeClock) -> None:
    assert take(book, "a", young=True).ok
    clock.now += TTL
    assert not take(book, "b", young=True).ok
    assert book.release("a", "a/1", 1).ok
    assert take(book, "b", young=True).ok


def test_epochs_go_on_above_what_a_candidate_has_seen(book: LeaseBook) -> None:
    outcome = take(book, "a", seen_epoch=41)
    assert outcome.lease and outcome.lease.epoch == 42


def test_one_request_does_not_use_up_the_epochs(clock: FakeClock) -> None:
    book = LeaseBook(clock, wall=lambda: 1.7e9)
    fresh = take(book, "a", seen_epoch=LARGEST_EPOCH)
    assert fresh.lease and fresh.lease.epoch == 1_700_001_001, "a state that was lost may have gone on from the wall clock"
    assert book.release("a", "a/1", fresh.lease.epoch).ok
    second = take(book, "b", seen_epoch=LARGEST_EPOCH)
    assert second.lease and second.lease.epoch == fresh.lease.epoch + 1001
    assert not book.renew("c", "c/1", LARGEST_EPOCH, "c:6379", TTL).ok
    assert book.current == second.lease and book.epoch <= second.lease.epoch + 1000


def test_a_renewal_of_an_epoch_out_of_reach_is_not_taken_for_a_lost_lease(clock: FakeClock) -> None:
    book = LeaseBook(clock, state=BookState(epoch=5))
    outcome = book.renew("a", "a/1", 5000, "a:6379", TTL)
    assert not outcome.ok and "beyond anything" in outcome.reason and book.current is None and book.epoch == 5
    recovering = LeaseBook(clock, wall=lambda: 1.7e9, recovering=True)
    assert not recovering.renew("a", "a/1", LARGEST_EPOCH, "a:6379", TTL).ok
    assert recovering.renew("b", "b/1", 1_700_000_900, "b:6379", TTL).ok


def test_no_epoch_is_beyond_what_json_readers_tell_apart(clock: FakeClock) -> None:
    book = LeaseBook(clock, state=BookState(epoch=LARGEST_EPOCH))
    outcome = take(book, "a")
    assert not outcome.ok and "every epoch has been given" in outcome.reason and book.epoch == LARGEST_EPOCH


def test_a_book_that_was_emptied_takes_the_holders_word(book: LeaseBook) -> None:
    outcome = book.renew("a", "a/1", 7, "a:6379", TTL)
    assert outcome.ok and book.current and book.current.epoch == 7
    assert book.history[-1].what == "taken over"


def test_nothing_changes_when_it_cannot_be_kept(clock: FakeClock) -> None:
    full = [False]

    def save(state: BookState) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")

    book = LeaseBook(clock, save=save)
    take(book, "a")
    full[0] = True
    with pytest.raises(OSError, match="No space"):
        book.release("a", "a/1", 1)
    assert book.current and book.current.holder == "a"
    assert book.renew("a", "a/1", 1).ok, "a renewal needs no disk"
    clock.now += TTL
    with pytest.raises(OSError, match="No space"):
        take(book, "b")
    assert book.current is None and book.epoch == 1


def test_history_tells_the_last_changes_and_no_renewals(book: LeaseBook, clock: FakeClock) -> None:
    for _ in range(40):
        take(book, "a")
        book.renew("a", "a/1", book.epoch)
        clock.now += TTL
    assert len(book.history) == 50
    assert {change.what for change in book.history} == {"granted", "expired"}


def lines() -> tuple[list[str], Callable[[str], None]]:
    told: list[str] = []
    return told, told.append


def test_a_restart_keeps_holder_and_epoch_and_gives_one_full_ttl(tmp_path: Path, clock: FakeClock) -> None:
    told, log = lines()
    take(JournalledBook(tmp_path, log, clock), "a")
    clock.now += 500
    book = JournalledBook(tmp_path, log, clock)
    assert not take(book, "b").ok and book.expires_in == TTL
    assert book.renew("a", "a/1", 1).ok
    clock.now += TTL
    assert take(book, "b").lease == book.current and book.epoch == 2
    assert told == []


def test_a_release_survives_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    _, log = lines()
    book = JournalledBook(tmp_path, log, clock)
    take(book, "a")
    book.release("a", "a/1", 1)
    again = JournalledBook(tmp_path, log, clock)
    assert again.released and take(again, "b", young=True).ok and again.epoch == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"epoch": "1", "lease": null, "history": []}',
        b'{"epoch": 9007199254740992, "lease": null, "history": []}',
        b'{"epoch": 1, "lease": {"holder": "a"}, "history": []}',
        b'{"epoch": 1, "lease": {"holder": "a", "instance": "i", "address": "x", "epoch": 9, "granted_at": 1, "ttl": 1}'
        b', "history": []}',
    ],
)
def test_an_unreadable_file_is_moved_aside_and_nothing_is_granted_for_one_ttl(
    tmp_path: Path, clock: FakeClock, content: bytes
) -> None:
    (tmp_path / "lease.json").write_bytes(content)
    told, log = lines()
    book = JournalledBook(tmp_path, log, clock, wall=lambda: 1.7e9)
    assert told[0].startswith("✗") and "unreadable" in told[0]
    assert [path.read_bytes() for path in tmp_path.glob("lease.json.unreadable-*")] == [content]
    assert not take(book, "b", seen_epoch=10**9).ok, "having seen a high epoch does not prove that its holder is gone"
    clock.now += TTL
    assert not take(book, "b", young=True).ok
    outcome = take(book, "b")
    assert outcome.ok and outcome.lease and outcome.lease.epoch > 1.7e9


def test_a_head_goes_on_over_an_unreadable_file(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "lease.json").write_text("?")
    _, log = lines()
    book = JournalledBook(tmp_path, log, clock)
    assert book.renew("old", "old/1", 5, "old:6379", TTL).ok, "delayed by the network, from a head that is gone"
    assert book.renew("a", "a/1", 7, "a:6379", TTL).ok
    assert not book.renew("old", "old/1", 5, "old:6379", TTL).ok
    assert not take(book, "b").ok
    assert json.loads((tmp_path / "lease.json").read_text())["lease"]["holder"] == "a"


def test_a_second_restart_does_not_take_an_unreadable_file_for_a_new_start(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "lease.json").write_text("?")
    _, log = lines()
    JournalledBook(tmp_path, log, clock)
    assert not take(JournalledBook(tmp_path, log, clock), "b").ok


def test_a_write_that_was_cut_off_leaves_the_former_state(tmp_path: Path, clock: FakeClock) -> None:
    _, log = lines()
    take(JournalledBook(tmp_path, log, clock), "a")
    (tmp_path / "lease.new").write_text('{"epoch": 2, "lea')
    state = LeaseStore(tmp_path).load()
    assert state and state.lease and state.lease.holder == "a"


NAMES = st.sampled_from(["a", "b", "c"])
INSTANCES = st.sampled_from(["1", "2"])


class BookMachine(RuleBasedStateMachine):
    """Any order of requests, restarts and passing time: what a holder was promised is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.kept: BookState | None = None
        self.book = LeaseBook(self.clock, save=self.save)
        self.owner_of: dict[int, tuple[str, str]] = {}
        self.promised: tuple[str, str, int] | None = None
        self.promised_until = 0.0

    def save(self, state: BookState) -> None:
        self.kept = state

    @rule(name=NAMES, instance=INSTANCES, seen=st.integers(0, 30), young=st.booleans())
    def acquire(self, name: str, instance: str, seen: int, young: bool) -> None:
        outcome = self.book.acquire(name, instance, f"{name}:1", TTL, seen_epoch=seen, young=young)
        if outcome.ok:
            assert outcome.lease and outcome.lease.belongs_to(name, instance)
            self.note((name, instance), outcome.lease.epoch)

    @rule(name=NAMES, instance=INSTANCES, back=st.integers(0, 2))
    def renew(self, name: str, instance: str, back: int) -> None:
        epoch = max(0, self.book.epoch - back)
        if self.book.renew(name, instance, epoch, f"{name}:1", TTL).ok:
            self.note((name, instance), epoch)

    @rule(name=NAMES, instance=INSTANCES, back=st.integers(0, 2))
    def release(self, name: str, instance: str, back: int) -> None:
        epoch = max(0, self.book.epoch - back)
        if self.book.release(name, instance, epoch).ok:
            assert self.owner_of[epoch] == (name, instance)
            self.promised = None

    @rule(seconds=st.floats(0.1, TTL * 1.5))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    @precondition(lambda self: self.kept is not None)
    def restart(self) -> None:
        self.book = LeaseBook(self.clock, save=self.save, state=self.kept)

    def note(self, who: tuple[str, str], epoch: int) -> None:
        """A granted request: `who` may act for one ttl from now."""
        assert self.owner_of.setdefault(epoch, who) == who, "one epoch, two holders"
        if self.promised and self.clock.now < self.promised_until:
            assert self.promised[:2] == who, "granted while another was still promised it"
        self.promised, self.promised_until = (*who, epoch), self.clock.now + TTL

    @invariant()
    def a_promise_is_kept(self) -> None:
        if self.promised and self.clock.now < self.promised_until:
            current = self.book.current
            assert current and current.belongs_to(*self.promised[:2])


BookMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestBook = BookMachine.TestCase
