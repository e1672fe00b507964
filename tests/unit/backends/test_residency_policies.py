"""The policies one by one, on small traces told by hand and on long ones by chance; what is learned on the way."""

from __future__ import annotations

from random import Random

import pytest

from backends.residency.actions import Action, Load, Ready, Sleep, Unload, Wake
from backends.residency.costs import Costs, FirstCosts, Rate
from backends.residency.experts import Expert
from backends.residency.group import Group, Rules
from backends.residency.policies.api import Policy
from backends.residency.policies.cost_aware import CostAware
from backends.residency.policies.lru import Lru
from tests.benchmarks.residency import COST_AWARE, LINES, ONE_QUEUE, WITH_SCORER, compare, failures, trace, with_policy


class Stage:
    """A group with a clock, whose actions are done at once unless they are held."""

    def __init__(self, policy: Policy, sizes: dict[str, float], capacity: float, rules: Rules | None = None, pinned: str = "") -> None:
        self.now = 1000.0
        experts = [Expert(name, size, name in pinned) for name, size in sizes.items()]
        rules = rules or Rules(min_stay=0, max_wait=60)
        self.group = Group(experts, capacity, policy, rules, clock=lambda: self.now, rng=Random(3))
        self.down = "unloaded" if rules.how == "lora" else "asleep"
        self.held: list[Action] = []
        self.hold = False
        for name in sizes:
            self.group.found(name, self.down, 1, self.now)  # type: ignore[arg-type]
        self.turn()

    def turn(self) -> list[Action]:
        """What was begun, and all that followed."""
        begun: list[Action] = []
        while actions := [a for a in self.group.actions() if not isinstance(a, Ready)]:
            begun += actions
            if self.hold:
                self.held += actions
                break
            for action in actions:
                self.group.done(action, 1.0)
        return begun

    def ask(self, name: str, seconds: float = 1.0) -> list[Action]:
        """A request that is answered at once if it can be; else it stays in line."""
        self.now += seconds
        self.group.arrived(name)
        begun = self.turn()
        if self.group.serves(name):
            self.answer(name)
        return begun

    def answer(self, name: str) -> None:
        self.group.started(name)
        self.group.left(name)
        self.group.finished(name)

    def awake(self) -> set[str]:
        return {name for name, resident in self.group.residents.items() if resident.state == "awake"}


THREE = {"a": 1.0, "b": 1.0, "c": 1.0}


def test_lru_takes_the_one_that_was_used_the_longest_ago() -> None:
    stage = Stage(Lru(), THREE, 2)
    for name in "aba":
        stage.ask(name)
    assert stage.ask("c") == [Sleep("b", 1), Wake("c", 1)]
    assert stage.awake() == {"a", "c"}


def test_cost_aware_keeps_what_is_asked_for_often() -> None:
    stage = Stage(CostAware(thrift=0), THREE, 2)
    for name in "aaaaaab":
        stage.ask(name)
    assert stage.ask("c") == [Sleep("b", 1), Wake("c", 1)], "b was used last, and is wanted less"


def test_cost_aware_minds_size_and_what_a_switch_takes() -> None:
    stage = Stage(CostAware(thrift=0), {"big": 2.0, "small": 1.0, "new": 1.0}, 3)
    stage.ask("big")
    stage.ask("small")
    assert stage.ask("new") == [Sleep("big", 1), Wake("new", 1)], "as often asked for, but it takes twice the memory"
    stage = Stage(CostAware(thrift=0), THREE, 2)
    stage.group.residents["a"].costs.observe(Wake("a", 1), 60)
    for name in "abb":
        stage.ask(name)
    assert stage.ask("c") == [Sleep("b", 1), Wake("c", 1)], "b is asked for more often, but wakes sooner"


def test_a_switch_is_worth_it_when_it_is_paid_for() -> None:
    """One who waits is held back for a while, many are not, and nobody for ever."""
    stage = Stage(CostAware(thrift=5, horizon=1000), THREE, 2, Rules(min_stay=0, max_wait=60))
    for name in "ab" * 20:
        stage.ask(name)
    assert stage.ask("c") == []
    due = stage.group.look_at()
    assert due is not None
    alone = due - stage.now
    assert 5 < alone < 15, "about five times the 2.5 seconds of a switch"
    for _ in range(9):
        stage.ask("c", 0)
    many = stage.group.look_at()
    assert many is not None
    assert many - stage.now == pytest.approx(alone / 10)
    stage.now = many
    assert [type(action) for action in stage.turn()] == [Sleep, Wake]
    stage = Stage(CostAware(thrift=1e6), THREE, 2, Rules(min_stay=0, max_wait=60))
    for name in "ababc":
        stage.ask(name)
    stage.now += 59
    assert stage.turn() == []
    stage.now += 2
    assert len(stage.turn()) == 2


def test_who_was_woken_stays_a_moment() -> None:
    stage = Stage(Lru(), THREE, 2, Rules(min_stay=5, max_wait=60))
    for name in "ab":
        stage.ask(name, 0.1)
    assert stage.ask("c", 0.1) == []
    assert stage.group.look_at() == pytest.approx(1005.1), "a was woken 0.2 s ago"
    stage.now = 1005.1
    assert stage.turn() == [Sleep("a", 1), Wake("c", 1)]


def test_a_line_is_served_before_its_expert_makes_room() -> None:
    stage = Stage(Lru(), {"a": 1.0, "b": 1.0}, 1, Rules(min_stay=0, max_wait=30))
    stage.ask("a")
    stage.group.arrived("a")  # one more waits for a place on it
    assert stage.ask("b") == []
    stage.group.started("a")
    assert stage.group.left("a")
    assert stage.turn() == [], "it is busy: it drains"
    assert not stage.group.serves("a")
    assert stage.group.finished("a")
    assert stage.turn() == [Sleep("a", 1), Wake("b", 1)]


def test_who_drains_for_nobody_serves_again() -> None:
    stage = Stage(Lru(), {"a": 1.0, "b": 1.0}, 1)
    stage.ask("a")
    stage.group.started("a")
    assert stage.ask("b") == []
    assert not stage.group.serves("a")
    assert stage.group.left("b")
    assert stage.group.actions() == [Ready("a")]
    assert stage.group.serves("a")


def test_pinned_experts_wake_by_themselves_and_never_sleep() -> None:
    stage = Stage(CostAware(thrift=0), THREE, 2, pinned="a")
    assert stage.awake() == {"a"}
    for name in "bcbcbc":
        stage.ask(name)
        assert stage.awake() == {"a", name}


def test_adapters_are_loaded_and_unloaded() -> None:
    stage = Stage(Lru(), THREE, 1, Rules("lora", min_stay=0))
    assert stage.ask("a") == [Load("a")]
    assert stage.ask("b") == [Unload("a"), Load("b")]


def test_what_fails_is_tried_again_later_and_later() -> None:
    stage = Stage(Lru(), THREE, 2, Rules(min_stay=0, retry=1, retry_cap=8))
    stage.hold = True
    stage.ask("a")
    pauses = []
    for _ in range(6):
        [action] = stage.held
        stage.held.clear()
        stage.group.failed(action, "no memory")
        assert stage.group.residents["a"].why == "no memory"
        stage.now += 0.01
        stage.group.found("a", "asleep", 1, stage.now)
        assert stage.turn() == []
        retry_at = stage.group.look_at()
        assert retry_at is not None
        pauses.append(retry_at - stage.now)
        stage.now = retry_at
        stage.turn()
    assert [0.7 * 2**n <= pause <= 1.2 * 2**n for n, pause in enumerate(pauses[:4])] == [True] * 4
    assert all(pause <= 8 * 1.2 for pause in pauses)


def test_the_seconds_until_it_serves() -> None:
    stage = Stage(Lru(), {"a": 1.0, "b": 1.0}, 1, Rules(min_stay=5, max_wait=60))
    seconds = stage.group.wake_seconds
    assert seconds("a") == pytest.approx(1.5)
    stage.hold = True
    stage.ask("a")
    stage.now += 1
    assert seconds("a") == pytest.approx(0.5)
    stage.group.done(stage.held.pop(), 1.0)
    stage.turn()
    assert (seconds("a"), seconds("b")) == (0, pytest.approx(5 + 1 + 1.5)), "its stay, its sleep, the wake"
    stage.group.found("b", "gone", 0, stage.now)
    assert seconds("b") == float("inf")


def test_costs_and_rates_are_learned() -> None:
    costs = Costs(FirstCosts(sleep=1, wake=2, wake_from_level_2=9), Sleep("", 1), Wake("", 1))
    assert (costs.down, costs.switch, costs.of(Wake("", 2)), costs.of(Ready(""))) == (1, 3, 9, 0)
    costs.observe(Wake("", 1), 4)
    assert costs.of(Wake("", 1)) == 3
    for _ in range(40):
        costs.observe(Wake("", 1), 0.5)
    assert costs.switch == pytest.approx(1.5, abs=0.01)
    rate = Rate(100, 0)
    for second in range(50):
        rate.add(second * 2)
    assert rate.per_second(100) == pytest.approx(0.5, rel=0.05)
    assert rate.per_second(400) < 0.03


def test_the_promise_holds_on_a_short_trace_too() -> None:
    results = {result.name: result for result in compare(trace(1500, 2.0, 1.0, Random(11)))}
    assert failures(list(results.values())) == []
    assert all(len(result.waits) == 1500 for result in results.values()), "everyone was served"
    assert results[COST_AWARE].mean < results[ONE_QUEUE].mean
    assert results[WITH_SCORER].diverted < 600
    assert results[LINES].switches > results[COST_AWARE].switches


def test_it_follows_when_other_experts_become_popular() -> None:
    arrivals = trace(1500, 1.0, 1.2, Random(4), drift=True)
    plain = with_policy("lru", arrivals, Lru(), Rules(min_stay=0, max_wait=1e9))
    ours = with_policy("ours", arrivals, CostAware(), Rules(min_stay=3, max_wait=30))
    assert ours.switches < 0.9 * plain.switches
    assert max(ours.waits) < 60
