"""The planner: whom the gateway asks next in a conversation of a policy model with its experts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from routers.api import Answer, Ask, Budget, Candidate, Message, Need, Task, Transcript, Turn
from routers.expectation import possible_cost
from routers.planners import plain
from routers.planners.plain import BadPlan
from routers.planners.router_r1 import learned, wording
from routers.planners.router_r1.conversation import EXPERT, POLICY, State, follow
from routers.planners.router_r1.grammar import STOPS
from routers.planners.router_r1.learned import MOST, Learned

MOST_ASKS = MOST["max_asks"]
USUAL = Learned(max_asks=4, policy_tokens=600, expert_tokens=1024)
"""The bounds where neither the configuration nor an artifact names any."""
TASK_TOKENS = 300
"""About what the policy reads beside the question, before anything was said."""
FORCED = "forced answer"
DEFAULT = "default: "
"""How the purpose of a final ask begins by which the route's own models answer, since the policy cannot; the reason follows."""


class RouterR1:
    """Lets `policy_model` think, ask experts (the route's models) and answer. (Router-R1: Zhang et al., arXiv 2506.09033)

    `max_asks`: how often it may ask; then it must answer. `policy_tokens`, `expert_tokens`: the longest turn and the longest answer. None:
    as it was trained, where `artifact` says so (made by `pointsman train router-r1`), else 4, 600 and 1024. A policy may be allowed fewer
    asks than it was trained with, not more.
    Grammar that breaks once is repaired by one more turn; twice, or where the policy's model fails, the route's ranking answers. A name
    that is no expert's is refused within <information>, and counts as an ask. Where money or time ends, the last expert's answer is given.

    Raises BadPlan, BadArtifact.
    """

    needs: frozenset[Need] = frozenset({"text"})
    instant = True

    def __init__(
        self,
        policy_model: str,
        max_asks: Annotated[int, Field(le=MOST_ASKS)] | None = None,
        policy_tokens: Annotated[int, Field(ge=16, le=32_768)] | None = None,
        expert_tokens: Annotated[int, Field(ge=16, le=32_768)] | None = None,
        artifact: Path | None = None,
    ) -> None:
        if max_asks is not None and max_asks < 1:
            raise BadPlan(("max_asks",), f"a policy that may ask {max_asks} times asks nobody; use the planner single")
        if not policy_model.strip():
            raise BadPlan(("policy_model",), "must name a model")
        bounds = USUAL if artifact is None else learned.load(artifact)
        if artifact is not None and max_asks is not None and max_asks > bounds.max_asks:
            raise BadPlan(("max_asks",), f"the policy was trained to ask at most {bounds.max_asks} times")
        self._policy = policy_model
        self._max_asks = bounds.max_asks if max_asks is None else max_asks
        self._policy_tokens = bounds.policy_tokens if policy_tokens is None else policy_tokens
        self._expert_tokens = bounds.expert_tokens if expert_tokens is None else expert_tokens
        self.artifact_hash = bounds.hash
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
        forced = next((turn for turn in turns if turn.ask.purpose == FORCED and not turn.ask.final), None)
        if forced is not None:
            text = (forced.text or "").removesuffix(STOPS[1]).strip()
            return Answer(text, self._policy) if text else self._default(task, turns, left, "the budget ended")
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
            return self._forced((opening, ("assistant", f"{state.written}<answer>")), task, left, turns)
        if state.written:
            return self._turn((opening, ("assistant", state.written)), continues=True)
        return self._turn((opening,), continues=False)

    def _forced(self, prompt: tuple[Message, ...], task: Task, left: Budget, turns: Sequence[Turn]) -> Ask:
        """The tag is written for it, so that whatever it writes next is its answer, and can be relayed as it comes.

        Under a deadline it is not, once an expert has answered: what has begun to stream cannot be taken back for that answer.
        """
        most = self._policy_tokens if task.request.max_tokens is None else min(self._policy_tokens, task.request.max_tokens)
        final = left.seconds is None or not _heard(turns)
        return Ask((self._policy,), final, prompt, continues=True, max_tokens=most, stop=STOPS[1:], purpose=FORCED)

    def _turn(self, prompt: tuple[Message, ...], continues: bool) -> Ask:
        return Ask(
            (self._policy,), final=False, prompt=prompt, continues=continues, max_tokens=self._policy_tokens, stop=STOPS, purpose=POLICY
        )

    def _default(self, task: Task, turns: Sequence[Turn], left: Budget, why: str) -> Sequence[Ask] | Answer:
        """The route's models answer, as they would without a policy; where that cannot be paid, the last expert's words are the answer."""
        ranked = [scored.name for scored in task.ranking]
        heard = _heard(turns)
        able = [name for name in ranked if self._pays_for(task, name, turns, left, alone=True)]
        if heard and (not able or why == "the budget ended"):
            return Answer(heard[-1].text or "", heard[-1].model)
        return (Ask((*able, *(name for name in ranked if name not in able)), purpose=f"{DEFAULT}{why}"),)

    def _pays_for(self, task: Task, name: str, turns: Sequence[Turn], left: Budget, alone: bool = False) -> bool:
        """An expert, and after it the policy's answer unless the call stands `alone`."""
        calls = [name] if alone else [name, self._policy]
        seconds = sum(self._seconds(turns, call) for call in calls)
        cost = plain.expected_cost(task, [name]) + (0.0 if alone else self._policy_cost(task, turns))
        return plain.pays(left, cost, seconds)

    def _seconds(self, turns: Sequence[Turn], name: str) -> float:
        """An expert that was not heard yet takes as long as other experts did: the policy's short turns say nothing of that."""
        experts = [turn for turn in turns if turn.ask.purpose != POLICY and turn.text is not None]
        return plain.expected_seconds(turns if name == self._policy else experts or turns, name)

    def _pays_for_policy(self, task: Task, turns: Sequence[Turn], left: Budget) -> bool:
        return plain.pays(left, self._policy_cost(task, turns), plain.expected_seconds(turns, self._policy))

    def _policy_cost(self, task: Task, turns: Sequence[Turn]) -> float:
        """USD that a turn of the policy may come to, as the gateway holds it: it reads all that was said so far, and may write its most."""
        expected = plain.expected_cost(task, [self._policy])
        model = task.models.get(self._policy)
        if model is None:
            return expected
        said = next((turn for turn in reversed(turns) if turn.ask.purpose == POLICY and turn.tokens_in is not None), None)
        read = TASK_TOKENS + task.request.prompt_tokens if said is None else (said.tokens_in or 0) + (said.tokens_out or 0)
        turn = replace(task.request, prompt_tokens=read, max_tokens=self._policy_tokens, n=1)
        return max(expected, possible_cost(turn, Candidate(model)) or 0.0)


def _heard(turns: Sequence[Turn]) -> list[Turn]:
    """What experts have answered."""
    return [turn for turn in turns if turn.ask.purpose == EXPERT and turn.text]
