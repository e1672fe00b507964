"""The group as a state machine: whatever happens in whatever order, memory holds, nobody is cut off, and everybody is served."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backends.residency.actions import Action, Ready, Sleep, Unload
from backends.residency.experts import Expert, State
from backends.residency.group import Group, How, Rules
from backends.residency.policies.api import Policy
from backends.residency.policies.cost_aware import CostAware
from backends.residency.policies.lru import Lru

SIZES = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 3.0, "e": 1.5, "pin": 1.0}
NAMES = sorted(SIZES)
CAPACITY = 4.0


class Gateway(RuleBasedStateMachine):
    """Requests, a driver and a clock around a group. `servers`: where the servers really stand."""

    @initialize(
        how=st.sampled_from(["sleep", "lora"]),
        thrift=st.sampled_from([None, 0.0, 3.0]),
        pinned=st.booleans(),
        level=st.sampled_from([1, 2]),
    )
    def begin(self, how: How, thrift: float | None, pinned: bool, level: int) -> None:
        self.now = 100.0
        self.how: How = how
        self.level = 0 if how == "lora" else level
        policy: Policy = Lru() if thrift is None else CostAware(thrift)
        experts = [Expert(name, size, pinned and name == "pin") for name, size in SIZES.items()]
        rules = Rules(how, level, min_stay=2.0, max_wait=10.0)
        self.group = Group(experts, CAPACITY, policy, rules, clock=lambda: self.now, rng=Random(0))
        self.servers: dict[str, State] = dict.fromkeys(NAMES, "unloaded" if how == "lora" else "asleep")
        self.going_on: list[Action] = []
        self.waiting: dict[str, int] = dict.fromkeys(NAMES, 0)
        self.calls: dict[str, int] = dict.fromkeys(NAMES, 0)
        self.external = False
        self.turn()
        assert self.going_on == [], "nothing is done before it is known where the servers stand"
        for name in NAMES:
            self.group.found(name, self.servers[name], self.level, self.now)
        self.turn()

    def turn(self) -> None:
        for action in self.group.actions():
            name = action.expert
            if isinstance(action, Ready):
                self.admit(name)
                continue
            self.going_on.append(action)
            if isinstance(action, Sleep | Unload):
                assert self.calls[name] == 0, "a busy expert was put to sleep"
                assert self.servers[name] == "awake"
                assert not self.group.residents[name].expert.pinned or self.external
            else:
                assert self.servers[name] in ("asleep", "unloaded")
                self.servers[name] = "waking"
            if not self.external:
                assert self.used() <= CAPACITY, "woken before there was room"

    def used(self) -> float:
        return sum(SIZES[name] for name, state in self.servers.items() if state in ("awake", "waking"))

    def admit(self, name: str) -> None:
        while self.waiting[name] and self.group.serves(name):
            self.start(name)
            self.group.left(name)
            self.waiting[name] -= 1

    def start(self, name: str) -> None:
        assert self.servers[name] == "awake", "a request went to a server that sleeps"
        self.group.started(name)
        self.calls[name] += 1

    @rule(name=st.sampled_from(NAMES))
    def request(self, name: str) -> None:
        think = self.group.arrived(name)
        self.waiting[name] += 1
        if self.group.serves(name):
            assert not think
            self.admit(name)
        if think:
            self.turn()

    @rule(name=st.sampled_from(NAMES))
    def give_up(self, name: str) -> None:
        if self.waiting[name]:
            self.waiting[name] -= 1
            if self.group.left(name):
                self.turn()

    @rule(name=st.sampled_from(NAMES))
    def finish(self, name: str) -> None:
        if self.calls[name]:
            self.calls[name] -= 1
            if self.group.finished(name):
                self.turn()

    @precondition(lambda self: self.going_on)
    @rule(data=st.data(), fails=st.sampled_from([False, False, False, True]), took=st.booleans())
    def end(self, data: st.DataObject, fails: bool, took: bool) -> None:
        """An action ends. One that fails may have had its effect all the same."""
        action = self.going_on.pop(data.draw(st.integers(0, len(self.going_on) - 1)))
        self.carry_out(action, fails, took)
        self.turn()

    def carry_out(self, action: Action, fails: bool, took: bool) -> None:
        name = action.expert
        down: State = "unloaded" if self.how == "lora" else "asleep"
        if not fails or took:
            self.servers[name] = down if isinstance(action, Sleep | Unload) else "awake"
        elif self.servers[name] == "waking":
            self.servers[name] = down
        if fails:
            self.group.failed(action, "it broke")
            self.group.found(name, self.servers[name], self.level if self.servers[name] == "asleep" else 0, self.now)
        else:
            self.group.done(action, 0.5)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.turn()

    @rule(name=st.sampled_from(NAMES), alive=st.booleans())
    def interfere(self, name: str, alive: bool) -> None:
        """A server restarts (vLLM starts awake), or dies."""
        if self.how == "sleep" and not any(action.expert == name for action in self.going_on):
            self.external = True
            self.servers[name] = "awake" if alive else "gone"
            self.calls[name] = self.calls[name] if alive else 0
            while not alive and self.group.residents[name].busy:
                self.group.finished(name)
            self.now += 0.01
            self.group.found(name, self.servers[name], 0, self.now)
            self.turn()

    @invariant()
    def counts_hold(self) -> None:
        if not hasattr(self, "group"):
            return
        for name, resident in self.group.residents.items():
            assert (resident.waiting, resident.busy) == (self.waiting[name], self.calls[name])
            assert (resident.since is None) == (resident.waiting == 0)
            seconds = self.group.wake_seconds(name)
            assert seconds >= 0
            assert (seconds == 0 and resident.serves) or not resident.serves
        if not self.external:
            assert self.group.held <= CAPACITY or any(r.state == "unknown" for r in self.group.residents.values())

    def teardown(self) -> None:
        """Left to itself, everybody who waits is served."""
        if not hasattr(self, "group"):
            return
        for name in NAMES:
            if self.servers[name] == "gone":
                self.servers[name] = "awake"
                self.now += 0.01
                self.group.found(name, "awake", 0, self.now)
        for _ in range(400):
            self.turn()
            for action in self.going_on[:]:
                self.going_on.remove(action)
                self.carry_out(action, False, True)
                self.turn()
            for name in NAMES:
                while self.calls[name]:
                    self.finish(name)
            if not any(self.waiting.values()) and not self.going_on and self.used() <= CAPACITY:
                break
            look_at = self.group.look_at()
            assert look_at is None or look_at > self.now
            assert look_at is not None or self.going_on or self.group.actions(), "somebody waits, and nothing will ever happen"
            self.now = look_at if look_at is not None else self.now
        assert not any(self.waiting.values()), f"still waiting: {self.waiting}"
        assert self.used() <= CAPACITY


Gateway.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestGroup = pytest.mark.timeout(300)(Gateway.TestCase)
