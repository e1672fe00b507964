"""Which beginnings a backend probably has, in bounded memory that forgets."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backends.scorers.prefix import FULL_BYTES, PrefixAffinity
from backends.work import Work
from tests.unit.backends.standins import Clock, StandIn, several

BLOCK = 64
FULL = FULL_BYTES // BLOCK


def text(seed: int, blocks: int) -> bytes:
    return Random(seed).randbytes(blocks * BLOCK)


PARTS = [text(number, 1) for number in range(3)]


def affinity(clock: Clock | None = None, **settings: float) -> PrefixAffinity:
    return PrefixAffinity(BLOCK, clock=clock or Clock(), **settings)  # type: ignore[arg-type]


def test_the_longest_match_wins_and_says_how_much_of_the_head_it_is() -> None:
    scorer, (one, two, three) = affinity(), several(3)
    system, question, answer = text(0, 20), text(1, 10), text(2, 10)
    scorer.chosen(Work(system + question), one)
    scorer.chosen(Work(system), two)
    opinions = scorer.score(Work(system + question + answer), [one, two, three])
    assert opinions == [pytest.approx(30 / 40), pytest.approx(20 / 40), 0.0]
    assert scorer.score(Work(text(9, 3) + system), [one, two, three]) == [0.0, 0.0, 0.0], "the beginning counts, not what follows"


def test_a_short_head_is_no_full_match_and_one_below_a_block_is_nothing() -> None:
    scorer, backends = affinity(), several(2)
    scorer.chosen(Work(text(0, 4)), backends[0])
    assert scorer.score(Work(text(0, 4)), backends) == [pytest.approx(4 / FULL), 0.0]
    assert scorer.score(Work(text(0, 1)[:-1]), backends) == [None, None]
    assert scorer.score(Work(), backends) == [None, None]
    scorer.chosen(Work(b"short"), backends[0])


def test_a_busy_backend_gets_no_preference_and_the_others_keep_theirs() -> None:
    scorer, backends = affinity(busy_calls=4, busy_ratio=1.5), several(3)
    head = text(0, FULL)
    for backend in backends[:2]:
        scorer.chosen(Work(head), backend)
    for calls, opinions in [((4, 0, 0), [1.0, 1.0, 0.0]), ((5, 0, 0), [0.0, 1.0, 0.0]), ((150, 100, 100), [1.0, 1.0, 0.0])]:
        for backend, inflight in zip(backends, calls, strict=True):
            backend.inflight = inflight
        assert scorer.score(Work(head), backends) == opinions


def test_what_is_not_seen_again_is_forgotten_and_what_is_stays() -> None:
    clock = Clock()
    scorer, (one, two) = affinity(clock, seconds=10.0), several(2)
    kept, lost = Work(text(0, FULL)), Work(text(1, FULL))
    scorer.chosen(kept, one)
    scorer.chosen(lost, two)
    for _ in range(4):
        clock.now += 6.0
        assert scorer.score(kept, [one, two]) == [1.0, 0.0]
        scorer.chosen(kept, one)
    assert scorer.score(lost, [one, two]) == [0.0, 0.0]
    clock.now += 100.0
    scorer.score(kept, [one, two])
    clock.now += 100.0
    assert scorer.score(kept, [one, two]) == [0.0, 0.0]
    assert len(scorer) == 0


def test_a_backend_that_no_longer_gets_a_beginning_loses_it_even_if_others_do() -> None:
    clock = Clock()
    scorer, (one, two) = affinity(clock, seconds=10.0), several(2)
    work = Work(text(0, FULL))
    scorer.chosen(work, one)
    for _ in range(4):
        clock.now += 6.0
        scorer.score(work, [one, two])
        scorer.chosen(work, two)
    assert scorer.score(work, [one, two]) == [0.0, 1.0]


def test_backends_that_come_and_go_leave_nothing_behind() -> None:
    clock = Clock()
    scorer = affinity(clock, seconds=10.0)
    for number in range(500):
        clock.now += 6.0
        pods = [StandIn(f"10.{number // 250}.{number % 250}.{place}:8000") for place in range(3)]
        scorer.score(Work(text(number, FULL)), pods)
        scorer.chosen(Work(text(number, FULL)), pods[0])
    memory = scorer._memory
    assert len(memory._bits) <= 6
    assert max(memory._bits.values()) < 1 << 8, "bits of those who left are used again"


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(0, 3)), max_size=80), st.integers(16, 64))
def test_memory_is_bounded(calls: list[tuple[int, int, int]], blocks: int) -> None:
    scorer, backends = affinity(blocks=blocks), several(4)
    for seed, length, place in calls:
        scorer.chosen(Work(text(seed, length)), backends[place])
        assert len(scorer) <= 2 * (blocks + 30)


class AgainstATree(RuleBasedStateMachine):
    """While nothing has been forgotten, the matches are those that a list of everything sent would show."""

    @initialize()
    def begin(self) -> None:
        self.scorer = affinity(blocks=10**6)
        self.backends = several(5)
        self.sent: dict[str, list[bytes]] = {backend.name: [] for backend in self.backends}

    @rule(path=st.lists(st.integers(0, 2), max_size=6), place=st.integers(0, 4))
    def send(self, path: list[int], place: int) -> None:
        head = b"".join(PARTS[part] for part in path)
        opinions = self.scorer.score(Work(head), self.backends)
        if path:
            expected = [max((shared(head, other) for other in self.sent[b.name]), default=0) / FULL for b in self.backends]
            assert opinions == pytest.approx(expected)
        self.scorer.chosen(Work(head), self.backends[place])
        self.sent[self.backends[place].name].append(head)

    @invariant()
    def names_have_bits_of_their_own(self) -> None:
        bits = list(self.scorer._memory._bits.values()) if hasattr(self, "scorer") else []
        assert len(set(bits)) == len(bits)
        assert all(bit.bit_count() == 1 for bit in bits)


def shared(one: bytes, other: bytes) -> int:
    """Whole blocks that two beginnings share."""
    found = 0
    while one[found * BLOCK : (found + 1) * BLOCK] == other[found * BLOCK : (found + 1) * BLOCK] != b"":
        found += 1
    return found


TestAgainstATree = AgainstATree.TestCase
TestAgainstATree.settings = settings(max_examples=30, stateful_step_count=30)
