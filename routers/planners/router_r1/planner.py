"""The planner: whom the gateway asks next in a conversation of a policy model with its experts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated

from pydantic import Field

from routers.api import Answer, Ask, Budget, Message, Need, Task, Transcript, Turn
from routers.planners import plain
from routers.planners.plain import BadPlan
from routers.planners.router_r1 import wording
from routers.planners.router_r1.conversation import EXPERT, POLICY, State, follow
from routers.planners.router_r1.grammar import STOPS

MOST_ASKS = 16
FORCED = "forced answer"
DEFAULT = "default: "
"""How the purpose of a final ask begins by which the route's own models answer, since the policy cannot; the reason follows."""


class RouterR1:
    """Lets `policy_model` think, ask experts (the route's models) and answer. (Router-R1: Zhang et al., arXiv 2506.09033)

    `max_asks`: how often it may ask; then it must answer. `policy_tokens`, `expert_tokens`: the longest turn and the longest answer.
    Grammar that breaks once is repaired by one more turn; twice, or where the policy's model fails, the route's ranking answers. A name
    that is no expert's is refused within <information>, and counts as an ask. Where money or time ends, the last expert's answer is given.

    Raises BadPlan.
    """

    needs: frozenset[Need] = frozenset({"text"})
    instant = True
    artifact_hash = ""

    def __init__(
        self,
        policy_model: str,
        max_asks: Annotated[int, Field(le=MOST_ASKS)] = 4,
        policy_tokens: Annotated[int, Field(ge=16, le=32_768)] = 600,
        expert_tokens: Annotated[int, Field(ge=16, le=32_768)] = 1024,
    ) -> None:
        if max_asks < 1:
            raise BadPlan(("max_asks",), f"a policy that may ask {max_asks} times asks nobody; use the planner single")
        if not policy_model.strip():
            raise BadPlan(("policy_model",), "must name a model")
        self._policy = policy_model
        self._max_asks = max_asks
        self._policy_tokens = policy_tokens
        self._expert_tokens = expert_tokens
        self.named_models = (policy_model,)

    def check(self, candidates: Sequence[str], models: Collection[str]) -> None:
        """Raises BadPlan for a policy model that there is not, and for a route without any expert besides it."""
        plain.check_named(self.named_models, models, ("policy_model",))
        if not [name for name in candidates if name != self._policy]:
            raise BadPlan(("policy_model",), f"{self._policy!r} has nobody to ask: the route has no other model")

    def next(self, task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        reason = plain.unfit(task.request)
        experts = [scored.name for scored in task.ranking if scored.name != self._policy]
        if reason is None and not experts:
            reason = "only_candidate"
        if reason is None and not so_far.turns and not self._pays_for_policy(task, (), left):
            reason = "budget"
        if reason is not None:
            return (plain.single(task, reason),)
        if so_far.running:
            return ()
        turns = so_far.turns
        state = follow(turns, experts, lambda name: self._pays_for(task, name, turns, left))
        if state.final is not None:
            return Answer(state.final, self._policy)
        if state.failed or state.broken > 1 or any(turn.ask.final for turn in turns):
            return self._default(task, turns, left, "broken grammar" if state.broken > 1 else "the policy failed")
        if state.pending is not None:
            prompt: tuple[Message, ...] = (("user", state.pending.question),)
            name = state.pending.name
            return (Ask((name,), final=False, prompt=prompt, max_tokens=self._expert_tokens, purpose=EXPERT),)
        if not self._pays_for_policy(task, turns, left):
            return self._default(task, turns, left, "the budget ended")
        return (self._ask_policy(task, experts, state, left, turns),)

    def _ask_policy(self, task: Task, experts: Sequence[str], state: State, left: Budget, turns: Sequence[Turn]) -> Ask:
        opening: Message = ("user", wording.opening(task.request.text, [task.models[name] for name in experts], self._max_asks))
        if state.last is not None:
            said: tuple[Message, ...] = (("assistant", state.written + state.last), ("user", wording.complaint(state.why)))
            return self._turn((opening, *said), continues=False)
        could_ask = state.searches < self._max_asks and any(self._pays_for(task, name, turns, left) for name in experts)
        if state.written and not could_ask:
            # The tag is written for it, so that whatever it writes next is its answer, and can be relayed as it comes.
            forced: tuple[Message, ...] = (opening, ("assistant", f"{state.written}<answer>"))
            return Ask((self._policy,), prompt=forced, continues=True, max_tokens=self._policy_tokens, stop=STOPS[1:], purpose=FORCED)
        if state.written:
            return self._turn((opening, ("assistant", state.written)), continues=True)
        return self._turn((opening,), continues=False)

    def _turn(self, prompt: tuple[Message, ...], continues: bool) -> Ask:
        return Ask(
            (self._policy,), final=False, prompt=prompt, continues=continues, max_tokens=self._policy_tokens, stop=STOPS, purpose=POLICY
        )

    def _default(self, task: Task, turns: Sequence[Turn], left: Budget, why: str) -> Sequence[Ask] | Answer:
        """The route's models answer, as they would without a policy; where that cannot be paid, the last expert's words are the answer."""
        ranked = [scored.name for scored in task.ranking]
        heard = [turn for turn in turns if turn.ask.purpose == EXPERT and turn.text]
        able = [name for name in ranked if self._pays_for(task, name, turns, left, alone=True)]
        if heard and (not able or why == "the budget ended"):
            return Answer(heard[-1].text or "", heard[-1].model)
        return (Ask((*able, *(name for name in ranked if name not in able)), purpose=f"{DEFAULT}{why}"),)

    def _pays_for(self, task: Task, name: str, turns: Sequence[Turn], left: Budget, alone: bool = False) -> bool:
        """An expert, and after it the policy's answer unless the call stands `alone`."""
        calls = [name] if alone else [name, self._policy]
        seconds = sum(plain.expected_seconds(turns, call) for call in calls)
        return plain.pays(left, plain.expected_cost(task, calls), seconds)

    def _pays_for_policy(self, task: Task, turns: Sequence[Turn], left: Budget) -> bool:
        return plain.pays(left, plain.expected_cost(task, [self._policy]), plain.expected_seconds(turns, self._policy))
