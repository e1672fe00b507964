"""Sessions stay where they are, few move when the pool changes, and no backend is overfull."""

from __future__ import annotations

import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from backends.scorers.session import StickySession
from backends.work import Work
from tests.unit.backends.standins import StandIn, several

SESSIONS = [f"s-{number}" for number in range(2000)]


def home(scorer: StickySession, session: str, backends: list[StandIn]) -> StandIn:
    opinions = list(scorer.score(Work(session=session), backends))
    assert (opinions.count(1.0), opinions.count(0.0)) == (1, len(backends) - 1)
    return backends[opinions.index(1.0)]


def test_no_session_is_no_opinion() -> None:
    assert StickySession().score(Work(), several(3)) == [None, None, None]


def test_sessions_are_spread_evenly_and_whatever_the_order() -> None:
    scorer, backends = StickySession(), several(8)
    homes = {session: home(scorer, session, backends).name for session in SESSIONS}
    shares = [sum(name == backend.name for name in homes.values()) / len(SESSIONS) for backend in backends]
    assert all(0.09 < share < 0.16 for share in shares), shares
    Random(1).shuffle(backends)
    assert {session: home(StickySession(), session, backends).name for session in SESSIONS} == homes


def test_one_that_leaves_takes_only_its_own_sessions_and_one_that_joins_takes_only_its_share() -> None:
    scorer, backends = StickySession(), several(8)
    before = {session: home(scorer, session, backends).name for session in SESSIONS}
    gone = backends[3]
    after = {session: home(scorer, session, [b for b in backends if b is not gone]).name for session in SESSIONS}
    assert {before[session] for session in SESSIONS if before[session] != after[session]} == {gone.name}
    moved = [session for session in SESSIONS if home(scorer, session, [*backends, StandIn("new:1")]).name != before[session]]
    assert 0.07 < len(moved) / len(SESSIONS) < 0.16
    assert all(home(scorer, session, [*backends, StandIn("new:1")]).name == "new:1" for session in moved)


@given(st.integers(2, 10), st.floats(1.05, 3), st.integers(1, 8), st.lists(st.integers(0, 30), min_size=1, max_size=300))
def test_no_backend_is_overfull(count: int, overload: float, unharmed: int, sessions: list[int]) -> None:
    scorer, backends = StickySession(overload, unharmed), several(count)
    for placed, number in enumerate(sessions):
        chosen = home(scorer, f"s-{number}", backends)
        chosen.inflight += 1
        assert chosen.inflight <= max(unharmed, math.ceil(overload * (placed + 1) / count))


def test_an_overfull_backend_hands_its_sessions_to_the_next_of_each() -> None:
    scorer, backends = StickySession(unharmed=1), several(4)
    busy = home(scorer, SESSIONS[0], backends)
    mine = [session for session in SESSIONS if home(scorer, session, backends) is busy]
    busy.inflight = 100
    heirs = {home(scorer, session, backends).name for session in mine}
    assert heirs == {backend.name for backend in backends if backend is not busy}
    busy.inflight = 0
    assert home(scorer, SESSIONS[0], backends) is busy
