"""Trains `rl_rounds` on recorded answers: nets on train, knobs on train and validation. Test is never looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from routers import artifacts
from routers.learned import Lessons, Prompts, gathered
from routers.learning.figures import hull
from routers.learning.rounds import curves, lookahead, manners, posterior, ppo
from routers.learning.rounds.ground import Ground, ground, traits
from routers.learning.rounds.play import WEIGHTS, play
from routers.learning.rounds.reward import Priced
from routers.rounds import question
from routers.rounds.experience import KIND
from routers.rounds.net import Net
from routers.rounds.policy import Policy
from routers.rounds.standing import ASK, Traits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.api import Embeddings, Encoder
    from routers.learning.answers import Recorded
    from routers.learning.rounds.reward import Reward
    from routers.rounds.question import Question


FEWEST = 50
"""Questions that a split must have."""
FOLDS = 4
COARSE = np.concatenate([np.logspace(-2.3, 0.3, 10), [np.inf]])
"""The weights at which a policy is looked at while it learns."""
TRUSTS = (1.0, 0.7, 0.4, 0.0)
MARGINS = (0.0, 0.01, 0.03, 1.0)
"""At the last, nobody is asked after the first."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to learn. `asks`: random asks that are played to their end in each of `turns` of looking ahead. `stages`: how often that is
    done; in between, what is believed of answers is learned anew where the policy goes. `draws`: sets of models for each question.
    `look_every`: updates of PPO between two looks at validation.
    """

    asks: int = 120_000
    stages: int = 1
    turns: int = 3
    draws: int = posterior.DRAWS
    pace: ppo.Pace = field(default_factory=ppo.Pace)
    look_every: int = 4


@dataclass(frozen=True, slots=True)
class Look:
    """What a policy was worth on train and validation: with validation alone, noise would be chosen. `update`: 0 is before PPO.
    `reward`: mean over the update's episodes; None before any.
    """

    update: int
    aiq: float
    reward: float | None


@dataclass(frozen=True, slots=True)
class Trained:
    """`unit`: USD of one unit of cost. `looks`, `updates`: the learning curve. `validation_aiq`: of what is kept."""

    question: Question
    policy: Policy
    models: tuple[str, ...]
    unit: float
    looks: tuple[Look, ...]
    validation_aiq: float
    updates: tuple[ppo.Progress, ...] = ()
    seed: int = 0

    @property
    def kept(self) -> Look:
        """The look whose policy it is: the best one, and of equals the first."""
        return max(self.looks, key=lambda look: look.aiq)

    @property
    def metrics(self) -> Mapping[str, float]:
        return {"validation_aiq": self.validation_aiq}


def train(
    recorded: Recorded, vectors: Embeddings, seed: int, say: Callable[[str], None], plan: Plan | None = None, reward: Reward | None = None
) -> Trained:
    """`vectors` (n, d): of the n recorded questions. `reward`: what PPO learns from; default: `Priced`. Deterministic from the seed.

    Raises ValueError if train has fewer than FEWEST questions that all models answered, or validation none.
    """
    plan = Plan() if plan is None else plan
    school = _school(recorded, vectors)
    say(f"what to expect of {len(recorded.models)} models on {len(school)} questions")
    asked, unit = question.fit(school, seed), unit_of(recorded)
    lesson = recorded.split("train")
    known = traits(lesson, unit)
    unseen, costs = question.expect_unseen(school, FOLDS, seed)
    learned = ground(lesson, unseen, unit, costs / np.float32(unit))
    say("how likely answers are right")
    believes = posterior.fit(learned, known, seed, plan.draws)
    policy = Policy(believes, Net.fresh(np.zeros((2, ASK), np.float32), (4,), 1, seed), known)
    for stage in range(plan.stages):
        policy = lookahead.fit(learned, policy, seed + stage, plan.asks, plan.turns, say)
        if stage + 1 < plan.stages:
            came = lookahead.visited(learned, policy, seed + stage, plan.draws * len(learned) // 2)
            policy = replace(policy, posterior=posterior.fit(learned, known, seed + stage, plan.draws, came))
    if learned.models > 1:
        policy = replace(policy, manners=manners.fit(learned, policy, seed))
    held = learned.joined(prepared(recorded, vectors, asked, unit, policy.traits, "validation"))
    policy = cautious(held, policy)
    looks, kept, updates = [Look(0, worth(held, policy), None)], policy, list[ppo.Progress]()
    say(f"before any update: trust {policy.trust:g}, margin {policy.margin:g}, AIQ {looks[0].aiq:.4f}")

    def told(progress: ppo.Progress, current: Policy) -> None:
        nonlocal kept
        updates.append(progress)
        if progress.update % plan.look_every != plan.look_every - 1:
            return
        found = Look(progress.update + 1, worth(held, current), progress.reward)
        if found.aiq > max(look.aiq for look in looks):  # of equals the first, which is nearest to what was looked ahead
            kept = replace(current, gain=replace(current.gain, layers=tuple(array.copy() for array in current.gain.layers)))
        looks.append(found)
        say(f"update {found.update}: reward {progress.reward:.4f}, {progress.calls:.2f} asks, AIQ {found.aiq:.4f}")

    ppo.improve(learned, policy, Priced() if reward is None else reward, plan.pace, seed, told)
    alone = worth(prepared(recorded, vectors, asked, unit, kept.traits, "validation"), kept, WEIGHTS)
    return Trained(asked, kept, recorded.models, unit, tuple(looks), alone, tuple(updates), seed)


def cautious(held: Ground, policy: Policy) -> Policy:
    """With the trust and the margin that are best on questions; of equals the ones that change least."""
    trusting = max((replace(policy, trust=trust) for trust in TRUSTS), key=lambda one: worth(held, one))
    return max((replace(trusting, margin=margin) for margin in MARGINS), key=lambda one: worth(held, one))


def unit_of(recorded: Recorded) -> float:
    """USD: the mean cost on train of the model that is best on it; of equals the cheaper. Raises ValueError if it costs nothing."""
    lesson = recorded.split("train")
    scores, costs = lesson.scores.mean(axis=0), lesson.costs.mean(axis=0)
    found = float(costs[np.lexsort((costs, -scores))[0]])
    if found <= 0:
        raise ValueError("the best model costs nothing, so there is no price to weigh")
    return found


def _school(recorded: Recorded, vectors: Embeddings) -> Lessons:
    rows = np.flatnonzero(np.array(recorded.splits) == "train")
    if len(rows) < FEWEST:
        raise ValueError(f"the train split has {len(rows)} questions that all models answered; at least {FEWEST} are needed")
    lesson = recorded.take(rows)
    scores, costs = lesson.scores.astype(np.float32), lesson.costs.astype(np.float32)
    return Lessons(Prompts(vectors[rows], lesson.prompts), scores, costs, lesson.models, lesson.datasets)


def prepared(
    recorded: Recorded, vectors: Embeddings, asked: Question, unit: float, traits: Traits, split: str, columns: Sequence[int] | None = None
) -> Ground:
    """The questions of a split, with what is expected of the models. `traits`: of all that `asked` knows. `columns`: which of these are the
    ones that are `recorded`; default: they are the same.
    """
    prompts = _prompts(recorded, vectors, split)
    found, units = asked.expect(prompts), asked.bill.costs(prompts, traits.cost * np.float32(unit)) / np.float32(unit)
    places = list(range(len(traits.cost))) if columns is None else columns
    return ground(recorded.split(split), found.of(places), unit, units[:, places])


def _prompts(recorded: Recorded, vectors: Embeddings, split: str) -> Prompts:
    rows = np.flatnonzero(np.array(recorded.splits) == split)
    return Prompts(vectors[rows], tuple(recorded.prompts[row] for row in rows.tolist()))


def worth(held: Ground, policy: Policy, weights: NDArray[np.float64] = COARSE) -> float:
    """AIQ: mean accuracy over costs from the cheapest to the dearest model's."""
    played = play(held, policy, weights)
    means = held.paid.mean(axis=0, dtype=np.float64)
    least, most = float(means.min()), float(means.max())
    return hull(played.costs.mean(axis=1), played.scores.mean(axis=1), least).area(least, most)


def keep(folder: Path, trained: Trained, encoder: Encoder, data_hash: str, created: datetime) -> str:
    """Writes the artifact, with its learning curve beside it, and returns its hash. Raises what artifacts.write raises."""
    origin = artifacts.Origin(KIND, trained.models, data_hash, created, artifacts.EncoderId.of(encoder), trained.metrics)
    asked = trained.question
    tensors = gathered({"question": asked.tensors(), "policy": trained.policy.tensors()})
    looks = [{"update": look.update, "aiq": look.aiq, "reward": look.reward} for look in trained.looks]
    policy = dict(trained.policy.settings())
    settings = {"question": dict(asked.settings()), "policy": policy, "unit_usd": trained.unit, "looks": looks}
    written = artifacts.write(folder, origin, tensors, settings)
    curves.write(folder, trained)
    return written
