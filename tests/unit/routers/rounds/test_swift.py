"""One question at a time, in plain numbers: the same as of many questions at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routers.api import Answer, Budget, Model, Preferences, RouteRequest, Scored, Task, Transcript, Turn
from routers.learning.rounds.ground import Ground
from routers.learning.rounds.train import Trained, prepared
from routers.planners.rl_rounds import RlRounds
from routers.rounds import policy as many
from routers.rounds.net import Net
from routers.rounds.policy import Policy
from routers.rounds.standing import ASK, CLAIM, NO_VOTE, Sides, Standing, Traits, claims, naive, outlook
from routers.rounds.swift import Question, Swift, sides, spoken
from routers.rounds.swift import naive as swift_naive
from tests.unit.routers.rounds.recordings import Recording

WEIGHTS = (0.0, 0.02, 0.3, 4.0, np.inf)


def standings(rng: np.random.Generator, rows: int, models: int) -> Standing:
    """In every state that there is: nobody asked, everybody asked, no votes, bounds, prices."""
    asked = rng.random((rows, models)) < rng.random((rows, 1))
    votes = np.where(asked, rng.integers(-1, 3, (rows, models)), NO_VOTE).astype(np.int32)
    lengths = np.where(asked & (rng.random((rows, models)) < 0.8), rng.integers(0, 900, (rows, models)), np.nan)
    expected, spread, costs = (rng.uniform(low, high, (rows, models)) for low, high in ((0.0, 1.0), (0.01, 0.2), (0.01, 2)))
    left = np.where(rng.random(rows) < 0.3, rng.uniform(0, 3, rows), np.inf)
    parts = (expected, spread, costs, rng.integers(2, 11, rows), lengths, rng.choice(WEIGHTS, rows), left)
    expected, spread, costs, options, lengths, weight, left = (part.astype(np.float32) for part in parts)
    return Standing(expected, spread, costs, options, asked, votes, lengths, weight, left)


def policies(rng: np.random.Generator, models: int) -> Policy:
    score, cost, silent, length, spread = rng.uniform(0.1, 1, (5, models)).astype(np.float32)
    together = rng.uniform(0, 1, (models, models)).astype(np.float32)
    traits = Traits(score, cost, silent, 4 + length, spread, (together + together.T) / 2)
    nets = []
    for inputs in (CLAIM, ASK):
        fresh = Net.fresh(rng.normal(size=(50, inputs)).astype(np.float32), (8, 6), 1, int(rng.integers(99)))
        fresh.layers[-2][:] = rng.normal(0, 0.3, fresh.layers[-2].shape)
        nets.append(fresh)
    return Policy(*nets, traits, trust=float(rng.choice([0, 0.5, 1])), margin=float(rng.choice([0, 0.02])))


def question(standing: Standing, row: int) -> Question:
    numbers = (standing.expected[row], standing.spread[row], standing.costs[row])
    return Question(
        *(array.tolist() for array in numbers),
        float(standing.options[row]),
        standing.asked[row].tolist(),
        standing.votes[row].tolist(),
        np.nan_to_num(standing.lengths[row]).tolist(),
        float(standing.weight[row]),
        float(standing.left[row]),
    )


@pytest.mark.parametrize("models", [1, 2, 4, 8])
def test_it_sees_and_decides_the_same(models: int) -> None:
    rng = np.random.default_rng(models)
    policy, standing = policies(rng, models), standings(rng, 150, models)
    swift, view, all_sides = Swift.of(policy), policy.look(standing), Sides.of(standing)
    said, (asks, _) = claims(standing, all_sides, policy.traits), outlook(standing, all_sides, policy.traits, view.chances)
    likely, none = naive(standing, all_sides)
    gains, chosen, words = policy.gains(standing, view), policy.choose(standing, view), many.spoken(view.chances, standing)
    for row in range(len(standing)):
        one = question(standing, row)
        heard = sides(one)
        first = [side.backers[0] for side in heard]
        assert first == np.flatnonzero(all_sides.first[row]).tolist()
        chance = [min(max(value, 0.02), 0.98) for value in one.expected]
        mine, mine_none = swift_naive(chance, [float(np.log(c / (1 - c))) for c in chance], one, heard)
        np.testing.assert_allclose([*mine, mine_none], [*likely[row, first], none[row]], rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(np.reshape(swift._claims(one, heard), (-1, CLAIM)), said[row, first], rtol=2e-3, atol=1e-3)
        chances = swift.chances(one, heard)
        np.testing.assert_allclose(chances, view.chances[row, first], rtol=1e-3, atol=1e-4)
        free = one.affordable
        assert free == np.flatnonzero(standing.affordable[row]).tolist()
        if free and not np.isinf(one.weight):
            np.testing.assert_allclose(swift._outlook(one, heard, chances, free), asks[row, free], rtol=2e-3, atol=1e-3)
            np.testing.assert_allclose(swift._gains(one, heard, chances, free), gains[row, free], rtol=1e-3, atol=1e-3)
        assert swift.decide(one, heard) == (chosen[row], chances)
        if heard:
            assert spoken(one, heard, chances) == words[row]


def test_some_of_its_models_alone() -> None:
    rng = np.random.default_rng(0)
    policy = policies(rng, 5)
    some, same = Swift.of(policy).among([3, 0, 2]), Swift.of(policy.of([3, 0, 2]))
    assert (some.score, some.silent, some.length, some.length_spread) == (same.score, same.silent, same.length, same.length_spread)
    assert some.together == same.together


def decisions(held: Ground, policy: Policy, weight: float) -> list[tuple[list[int], int]]:
    """Whom the policy asks of each question, in order, and whose words it gives, as training plays it."""
    found = []
    for row in range(len(held)):
        asked = np.zeros((1, held.models), dtype=bool)
        order: list[int] = []
        while True:
            state = held.standing(np.array([row]), asked, np.array([weight]), np.array([np.inf]))
            view = policy.look(state)
            chosen = int(policy.choose(state, view)[0])
            if chosen < 0:
                found.append((order, int(many.spoken(view.chances, state)[0])))
                break
            asked = asked.copy()
            asked[0, chosen] = True
            order.append(chosen)
    return found


@pytest.mark.parametrize("cost_weight", [0.0, 0.02, 0.2])
def test_the_planner_does_with_recorded_questions_what_training_plays(
    made: Recording, trained: Trained, folder: Path, cost_weight: float
) -> None:
    recorded, planner = made.recorded, RlRounds(folder, cost_weight=cost_weight)
    for split in ("train", "validation", "test"):
        held = prepared(recorded, made.vectors, planner._known.question, trained.unit, trained.policy.traits, split)
        rows = [place for place, name in enumerate(recorded.splits) if name == split]
        for row, (order, words) in zip(rows, decisions(held, trained.policy, planner.weight(None)), strict=True):
            assert asked_by(planner, made, row) == ([trained.models[place] for place in order], trained.models[words])


def asked_by(planner: RlRounds, made: Recording, row: int) -> tuple[list[str], str]:
    """Whom the planner asks, and whose words it gives."""
    recorded = made.recorded
    request = RouteRequest(text=recorded.prompts[row], preferences=Preferences(), embedding=made.vectors[row])
    task = Task(request, tuple(Scored(name, 0.5) for name in recorded.models), {name: Model(name) for name in recorded.models})
    turns: list[Turn] = []
    while True:
        step = planner.next(task, Transcript(tuple(turns)), Budget())
        if isinstance(step, Answer):
            return [turn.model for turn in turns], step.model or ""
        (ask,) = step
        column = recorded.models.index(ask.models[0])
        number = int(recorded.votes[row, column])
        text = "I cannot say." if number < 0 else f"The answer is ({recorded.said[row][number]})."
        turn = Turn(replace(ask, final=False), ask.models[0], text, 1e-5, 1.0, tokens_out=int(recorded.lengths[row, column]))
        turns.append(turn)
        if ask.final:
            return [turn.model for turn in turns], ask.models[0]
