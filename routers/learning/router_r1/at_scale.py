"""The same training on many GPUs, by veRL (0.9): an agent loop that plays the planner, and a reward manager that judges its episodes.

`verl.yaml` and `verl_loop.yaml` beside this file name both. A row of veRL's data holds a question with its recorded answers, and what the
policy reads of the experts; see `exchange`. Needs veRL, which brings its own torch; the gateway never imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from routers.learning.router_r1.chains import ChatTokens, Row
from routers.learning.router_r1.episodes import Play, RecordedExperts, Stage, Wanted, Written
from routers.learning.router_r1.exchange import fitted, read
from routers.learning.router_r1.reward import Ending, Rewards
from routers.learning.router_r1.writing import cut
from routers.planners.router_r1 import RouterR1

if TYPE_CHECKING:
    from routers.learning.router_r1.episodes import Episode


class PlannerLoop(AgentLoopBase):  # type: ignore[misc]
    """One episode of one row. Its bounds stand in the configuration under `pointsman`."""

    async def _run(self, sampling_params: dict[str, Any], **fields: Any) -> Any:
        """As veRL calls it, with the columns of a row."""
        question, models, costs = read(fields["extra_info"])
        settings, rollout = self.config.pointsman, self.config.actor_rollout_ref.rollout
        planner = RouterR1("policy", settings.max_asks, settings.policy_tokens, settings.expert_tokens)
        window = rollout.prompt_length + rollout.response_length
        play = Play(Stage(planner, models, costs, ChatTokens(self.tokenizer), window, settings.seed), question, 0)
        experts, metrics = RecordedExperts(), AgentLoopMetrics()
        while play.ended is None:
            play.step()
            if play.wanted is not None:
                play.write(await self._write(play.wanted, sampling_params))
            if play.asked is not None:
                play.hear(experts.answer([play.asked])[0])
        return self._output(play.ended, metrics, rollout.prompt_length, rollout.response_length)

    run = _run

    async def _write(self, wanted: Wanted, sampling_params: Mapping[str, Any]) -> Written:
        more = {"max_tokens": wanted.max_tokens, "stop": list(wanted.stop), "include_stop_str_in_output": True}
        found = await self.server_manager.generate(
            request_id=uuid4().hex, prompt_ids=list(wanted.context), sampling_params={**sampling_params, **more}
        )
        return cut(wanted, found.token_ids, [self.tokenizer.eos_token_id], self.tokenizer)

    def _output(self, episode: Episode, metrics: Any, prompt: int, response: int) -> Any:
        row = fitted(episode.row, prompt, response)
        if not row.completion:
            row = Row(row.prompt, (self.tokenizer.eos_token_id,), (0,))
        return AgentLoopOutput(
            prompt_ids=list(row.prompt),
            response_ids=list(row.completion),
            response_mask=list(row.mask),
            num_turns=len(episode.turns) + 1,
            metrics=metrics,
            extra_fields={"ending": asdict(Ending.of(episode)), "turn_scores": [], "tool_rewards": []},
        )


class PlannerRewards(RewardManagerBase):  # type: ignore[misc]
    """Judges episodes as they end. There must be one such worker (`reward.num_workers: 1`): it is what remembers what episodes cost."""

    def __init__(
        self, config: Any, tokenizer: Any, compute_score: Any, reward_router_address: Any = None, reward_model_tokenizer: Any = None
    ) -> None:
        super().__init__(config, tokenizer, compute_score)
        self._rewards = Rewards(float(config.pointsman.alpha))

    async def run_single(self, data: Any) -> dict[str, object]:
        ending = Ending(**data[-1:][0].non_tensor_batch["tool_extra_fields"]["ending"])
        value = self._rewards.of([ending])[0]
        return {
            "reward_score": value,
            "reward_extra_info": {"clean": float(not ending.broken), "right": ending.right, "acc": ending.right},
        }
