"""A whole run: the policy is warmed up if that is wanted, learns by rewards, and is written down. Run again, it goes on where it ended.

Needs the extra `grpo`; the gateway never imports it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from routers.learning.router_r1 import course as courses
from routers.learning.router_r1 import grpo
from routers.learning.router_r1.chains import ChatTokens
from routers.learning.router_r1.course import CURVE
from routers.learning.router_r1.episodes import Stage
from routers.learning.router_r1.questions import mean_costs
from routers.learning.router_r1.reward import Rewards
from routers.learning.router_r1.scripted import transcripts
from routers.planners.router_r1 import RouterR1

if TYPE_CHECKING:
    from collections.abc import Mapping

    from routers.api import Model
    from routers.learning.router_r1.course import Course, Point
    from routers.learning.router_r1.episodes import Experts
    from routers.learning.router_r1.questions import Question

POLICY = "policy"
"""What the planner calls the policy's model here; no expert may be named so."""


def train(
    course: Course,
    questions: Sequence[Question],
    models: Mapping[str, Model],
    experts: Experts,
    folder: Path,
    data_hash: str,
    say: Callable[[str], None],
) -> tuple[tuple[Point, ...], Callable[[Path], None]]:
    """`models`: the experts, as the policy reads of them. `folder`: of the checkpoints.

    Returns the learning curve, and what writes weights and tokenizer into a folder. Raises ValueError for what cannot be learned from,
    OSError for a policy that cannot be loaded.
    """
    course.check()
    if POLICY in models:
        raise ValueError(f"no expert may be named {POLICY!r}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("it trains in one process; for several GPUs there is the configuration for veRL")
    checkpoint = courses.begin(folder, course, {"data_hash": data_hash, "experts": list(models), "questions": len(questions)})
    start = folder / grpo.START
    policy = grpo.load(str(start) if start.is_dir() else course.policy, course.layers)
    stage = _stage(course, questions, models, policy)
    fitting = [question for question in questions if _fits(stage, question, course)]
    if len(fitting) * course.group < course.batch:
        raise ValueError(f"{len(fitting)} questions fit into the policy's window of {policy.window} tokens; a batch needs more")
    if len(fitting) < len(questions):
        say(f"{len(questions) - len(fitting)} questions are longer than the policy's window and were left out")
    if not start.is_dir():
        _warm_up(course, stage, fitting, policy, start, say)
        policy = grpo.load(str(start), course.layers)
    seen = [] if checkpoint is None else courses.read_seen(checkpoint)
    rollouts = grpo.Rollouts(stage, fitting, experts, Rewards(course.alpha, seen), course)
    if checkpoint is not None:
        done = int(checkpoint.name.partition("-")[2])
        rollouts.points = [one for one in courses.read_curve(folder / CURVE) if one.step <= done]
        say(f"goes on after step {done}")
    trainer = grpo.trainer_of(course, policy, rollouts, len(fitting), folder, lambda one: say(_shown(one, course.steps)))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return tuple(rollouts.points), lambda target: _save(trainer, policy, target)


def _stage(course: Course, questions: Sequence[Question], models: Mapping[str, Model], policy: grpo.Policy) -> Stage:
    planner = RouterR1(POLICY, course.max_asks, course.policy_tokens, course.expert_tokens)
    return Stage(planner, models, mean_costs(questions, list(models)), ChatTokens(policy.tokenizer), policy.window, course.seed)


def _fits(stage: Stage, question: Question, course: Course) -> bool:
    """Whether the policy can at least begin."""
    opening = stage.opening(question)
    room = stage.window - course.policy_tokens
    return len(opening.encode()) <= room or len(stage.tokens.encode(opening)) <= room


def _warm_up(
    course: Course, stage: Stage, questions: Sequence[Question], policy: grpo.Policy, start: Path, say: Callable[[str], None]
) -> None:
    if course.warm_up:
        rng = Random(f"{course.seed}:warm-up")
        chosen = [rng.choice(questions) for _ in range(course.warm_up)]
        rows = transcripts(stage, chosen, course.policy_tokens, course.max_asks, course.seed)
        if not rows:
            raise ValueError("no script could be played to its end: the turns or the window are too short")
        say(f"warm-up: imitates {len(rows)} transcripts of a script")
        loss = grpo.imitate(policy, rows, course.warm_rate, say)
        say(f"warm-up: loss {loss:.3f}")
    fresh = start.with_name(f".{start.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    policy.model.save_pretrained(fresh)
    policy.tokenizer.save_pretrained(fresh)
    fresh.rename(start)


def _save(trainer: Any, policy: grpo.Policy, target: Path) -> None:
    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    model.save_pretrained(target)
    policy.tokenizer.save_pretrained(target)


def _shown(one: Point, steps: int) -> str:
    loss = "" if one.kl is None else f", KL {one.kl:.4f}"
    return (
        f"step {one.step} of {steps}: reward {one.reward:+.3f}, format {one.format:.2f}, clean {one.clean:.2f}, right {one.right:.2f}, "
        f"{one.asks:.1f} asks, {one.cost_usd:.3g} USD{loss}"
    )
