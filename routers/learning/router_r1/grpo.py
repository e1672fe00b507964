"""Group relative policy optimisation of the policy, by TRL: its trainer asks for episodes, and these are played by the real planner.

TRL's `rollout_func` gives the tokens of each episode and, as `env_mask`, those that the policy did not write. What it calls a completion is
all that follows the first context of a chain. The trainer brings the clipped ratio, the distance to the untaught policy, the advantage
within a group, LoRA and checkpoints. On one device; for many there is `at_scale`. Needs the extra `grpo`; the gateway never imports it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.models import unwrap_model_for_generation

from routers.learning.router_r1 import course as courses
from routers.learning.router_r1.course import CURVE, Course, Point
from routers.learning.router_r1.episodes import Stage, play
from routers.learning.router_r1.reward import Ending, Rewards
from routers.learning.router_r1.writing import ModelPolicy

if TYPE_CHECKING:
    from routers.learning.router_r1.chains import Row
    from routers.learning.router_r1.episodes import Experts
    from routers.learning.router_r1.questions import Question

START = "start"
"""In the folder of checkpoints: the policy as it was before any reward, warmed up or not. Distances are measured to it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A model that learns, with its tokenizer. `window`: tokens."""

    model: Any
    tokenizer: Any
    window: int


def load(folder: str, layers: int = 0) -> Policy:
    """In float32: smaller steps than bfloat16 can tell apart are what learning at such rates consists of. `layers`: so many of the last
    ones may learn; 0: all that there is. Raises ValueError.
    """
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: no language model can be loaded from there: {str(error).splitlines()[0]}") from None
    found = Policy(model, tokenizer, int(model.config.get_text_config().max_position_embeddings))
    if layers:
        model.requires_grad_(False)
        for number in _last(found, layers):
            model.get_decoder().layers[number].requires_grad_(True)
    return found


def _last(policy: Policy, layers: int) -> list[int]:
    count = len(policy.model.get_decoder().layers)
    if layers > count:
        raise ValueError(f"the policy has {count} layers, so {layers} of them cannot learn")
    return list(range(count - layers, count))


class Rollouts:
    """Plays the episodes of a step. `points`: what came of each step so far."""

    def __init__(self, stage: Stage, questions: Sequence[Question], experts: Experts, rewards: Rewards, course: Course) -> None:
        self._stage, self._questions, self._experts, self._course = stage, questions, experts, course
        self.rewards = rewards
        self.points: list[Point] = []

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, list[Any] | None]:
        """`prompts`: places of questions, one for each episode that is wanted."""
        began = time.monotonic()
        writer = ModelPolicy(_opened(trainer), trainer.processing_class, self._course.temperature)
        episodes = play(self._stage, [self._questions[int(place)] for place in prompts], writer, self._experts)
        values = self.rewards.of([Ending.of(episode) for episode in episodes])
        self.points.append(courses.point(int(trainer.state.global_step) + 1, episodes, values, time.monotonic() - began))
        rows = [padded(one.row, trainer.processing_class.eos_token_id) for one in episodes]
        return {
            "prompt_ids": [list(row.prompt) for row in rows],
            "completion_ids": [list(row.completion) for row in rows],
            "env_mask": [list(row.mask) for row in rows],
            "logprobs": None,
            "value": values,
        }


def _reward(prompts: Sequence[str], completions: Sequence[str], value: Sequence[float], **_told: object) -> list[float]:
    """As TRL calls it: what each episode is worth was settled when it was played."""
    return list(value)


def padded(row: Row, end: int) -> Row:
    """A row that has at least one token: a policy that found no room wrote none."""
    return row if row.completion else replace(row, completion=(end,), mask=(0,))


def _opened(trainer: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator)


class _Noting(TrainerCallback):  # type: ignore[misc]
    """Writes the learning curve, and into each checkpoint what the next episodes are judged by."""

    def __init__(self, rollouts: Rollouts, folder: Path, told: Callable[[Point], None]) -> None:
        self._rollouts, self._folder, self._told = rollouts, folder, told

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        points = self._rollouts.points
        if logs is None or "loss" not in logs or not points or points[-1].loss is not None:
            return
        points[-1] = replace(points[-1], loss=logs["loss"], kl=logs.get("kl"), norm=logs.get("grad_norm"))
        courses.write_curve(self._folder / CURVE, points)
        self._told(points[-1])

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        courses.write_seen(self._folder / f"checkpoint-{state.global_step}", self._rollouts.rewards.seen)


def trainer_of(course: Course, policy: Policy, rollouts: Rollouts, questions: int, folder: Path, told: Callable[[Point], None]) -> Any:
    """TRL's trainer for a policy that was loaded from `folder / START`. `questions`: how many there are to draw from."""
    cuda = torch.cuda.is_available()
    settings = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=course.at_once,
        gradient_accumulation_steps=course.batch // course.at_once,
        num_generations=course.group,
        max_steps=course.steps,
        learning_rate=course.rate,
        lr_scheduler_type="constant",
        beta=course.kl,
        epsilon=course.clip,
        temperature=course.temperature,
        loss_type="dapo",
        scale_rewards="group",
        logging_steps=1,
        save_steps=course.save_every,
        save_total_limit=2,
        seed=course.seed,
        data_seed=course.seed,
        bf16=cuda,
        use_cpu=not cuda,
        gradient_checkpointing=cuda,
        disable_dropout=True,
        report_to=[],
        disable_tqdm=True,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*rollout_func.*")  # experimental: tests/grpo holds it to what is needed here
        trainer = GRPOTrainer(
            model=policy.model,
            reward_funcs=_reward,
            args=settings,
            train_dataset=Dataset.from_dict({"prompt": [str(place) for place in range(questions)]}),
            processing_class=policy.tokenizer,
            callbacks=[_Noting(rollouts, folder, told)],
            peft_config=_lora(course, policy),
            rollout_func=rollouts,
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _lora(course: Course, policy: Policy) -> Any:
    if not course.lora:
        return None
    from peft import LoraConfig

    where = _last(policy, course.layers) if course.layers else None
    return LoraConfig(
        r=course.lora,
        lora_alpha=2 * course.lora,
        lora_dropout=0.0,
        target_modules="all-linear",
        layers_to_transform=where,
        task_type="CAUSAL_LM",
    )


def imitate(policy: Policy, rows: Sequence[Row], rate: float, say: Callable[[str], None]) -> float:
    """Teaches a policy to write what it wrote in these rows: an update for each, in this order. Returns the mean loss of the last tenth,
    in nats a token.
    """
    learning = [one for one in policy.model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=rate, weight_decay=0.0)
    policy.model.train()
    losses: list[float] = []
    every = max(1, len(rows) // 10)
    for row in rows:
        loss = _loss(policy.model, row)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if len(losses) % every == 0:
            say(f"warm-up: {len(losses)} of {len(rows)} transcripts, loss {sum(losses[-every:]) / every:.3f}")
    return sum(losses[-every:]) / len(losses[-every:])


def _loss(model: Any, row: Row) -> Any:
    """Mean over the tokens that the policy wrote."""
    ids = torch.tensor([[*row.prompt, *row.completion]], device=model.device)
    logits = model(input_ids=ids, logits_to_keep=len(row.completion) + 1, use_cache=False).logits[0, :-1]
    mask = torch.tensor(row.mask, dtype=torch.bool, device=model.device)
    return torch.nn.functional.cross_entropy(logits[mask].float(), ids[0, len(row.prompt) :][mask])
