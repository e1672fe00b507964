"""The planner `rl_rounds`: what it asks, when it stops, within which bounds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from routers.api import Answer, Ask, Budget, Model, Preferences, RouteRequest, Scored, Task, Transcript, Turn
from routers.artifacts import BadArtifact
from routers.learned import Prompts
from routers.planners.plain import BadPlan
from routers.planners.rl_rounds import RlRounds
from routers.registry import BadPlugin, Registry
from tests.unit.routers.rounds.recordings import COSTS, MODELS, OPTIONS, Recording

UNBOUNDED = Budget()
TEXT = "What is the sum of two numbers?" + OPTIONS


@pytest.fixture(scope="module")
def planner(folder: Path) -> RlRounds:
    return RlRounds(folder, cost_weight=0.02)


@pytest.fixture(scope="module")
def task(made: Recording) -> Task:
    return asking(made)


def asking(made: Recording, names: Sequence[str] = MODELS, weight: float | None = None) -> Task:
    costs = dict(zip(MODELS, COSTS, strict=True))
    ranking = tuple(Scored(name, 0.5, cost_usd=costs.get(name)) for name in names)
    request = RouteRequest(text=TEXT, preferences=Preferences(cost_weight=weight), embedding=made.encoder.encode([TEXT])[0])
    return Task(request, ranking, {name: Model(name) for name in names})


def heard(ask: Ask, text: str | None, seconds: float = 1.0) -> Turn:
    return Turn(ask, ask.models[0], text, 1e-5, seconds, None if text is not None else "upstream_error", tokens_out=40)


def play(planner: RlRounds, task: Task, texts: dict[str, str | None], left: Budget = UNBOUNDED) -> tuple[list[Turn], Answer | Ask]:
    """To the end: the turns, and the answer or the final ask."""
    turns: list[Turn] = []
    for _ in range(10):
        step = planner.next(task, Transcript(tuple(turns)), left)
        if isinstance(step, Answer):
            return turns, step
        assert len(step) == 1
        if step[0].final:
            return turns, step[0]
        turns.append(heard(step[0], texts[step[0].models[0]]))
    raise AssertionError("it does not end")


AGREED: dict[str, str | None] = dict.fromkeys(MODELS, "The answer is (B).")


def test_it_ends_with_the_words_of_whom_it_asked(planner: RlRounds, task: Task) -> None:
    turns, end = play(planner, task, AGREED)
    assert isinstance(end, Answer)
    assert end.text == AGREED["small"]
    assert end.model in {turn.model for turn in turns}
    assert len({turn.model for turn in turns}) == len(turns)


def test_it_is_a_pure_function(planner: RlRounds, task: Task, folder: Path) -> None:
    turns, end = play(planner, task, {"small": "A", "middle": "(B)", "large": "The answer is C"})
    other = RlRounds(folder, cost_weight=0.02)
    for count in range(len(turns) + 1):
        so_far = Transcript(tuple(turns[:count]))
        first = planner.next(task, so_far, UNBOUNDED)
        assert first == planner.next(task, so_far, UNBOUNDED) == other.next(task, so_far, UNBOUNDED)
    assert first == end


def test_it_waits_for_what_is_running(planner: RlRounds, task: Task) -> None:
    assert planner.next(task, Transcript((), (Ask(("small",), final=False),)), UNBOUNDED) == ()


def test_a_request_that_weighs_cost_is_asked_less_for(planner: RlRounds, made: Recording) -> None:
    dear, _ = play(planner, asking(made, weight=0.0), {"small": "A", "middle": "B", "large": "C"})
    _, cheap = play(planner, asking(made, weight=500.0), AGREED)
    assert len(dear) >= 1
    assert isinstance(cheap, Ask)
    assert cheap.models == ("small",)


def test_what_is_left_is_never_overspent(planner: RlRounds, task: Task) -> None:
    turns, end = play(planner, task, {"small": "A", "middle": "B", "large": "C"}, Budget(cost_usd=6e-5))
    assert "large" not in {turn.model for turn in turns}
    assert isinstance(end, Answer) or end.models != ("large",)
    first = Transcript((heard(Ask(("small",), final=False), "A"),))
    assert planner.next(task, first, Budget(cost_usd=0.0)) == Answer("A", "small")


def test_it_asks_the_cheapest_if_nobody_seems_to_be_within_the_bounds(planner: RlRounds, task: Task) -> None:
    step = planner.next(task, Transcript(), Budget(cost_usd=1e-9))
    assert isinstance(step, Sequence)
    assert step[0].models == ("small",)
    assert step[0].final


def test_it_stops_when_time_runs_out(planner: RlRounds, task: Task) -> None:
    slow = Transcript((heard(Ask(("small",), final=False), "A", seconds=3.0),))
    assert planner.next(task, slow, Budget(seconds=2.0)) == Answer("A", "small")


def test_who_fails_is_not_asked_again(planner: RlRounds, task: Task) -> None:
    turns, end = play(planner, task, {"small": None, "middle": None, "large": "B"})
    assert [turn.model for turn in turns].count("small") <= 1
    failed = {turn.model for turn in turns if turn.text is None}
    assert (end.model if isinstance(end, Answer) else end.models[0]) not in failed
    everyone = tuple(heard(Ask((name,), final=False), None) for name in MODELS)
    last = planner.next(task, Transcript(everyone), UNBOUNDED)
    assert isinstance(last, Sequence)
    assert last[0].final


def test_models_that_it_does_not_know_are_left_out(planner: RlRounds, made: Recording) -> None:
    turns, end = play(planner, asking(made, ("huge", "small")), AGREED)
    assert {turn.model for turn in turns} <= {"small"}
    assert (end.model if isinstance(end, Answer) else end.models[0]) == "small"
    step = planner.next(asking(made, ("huge", "vast")), Transcript(), UNBOUNDED)
    assert isinstance(step, Sequence)
    assert step[0] == Ask(("huge", "vast"), purpose="unknown models")


def test_a_route_of_nobody_that_it_knows_is_refused(planner: RlRounds) -> None:
    planner.check(("huge", "small"), ("huge", "small", "vast"))
    with pytest.raises(BadPlan, match="knows none of the route's models; it was made for small, middle, large"):
        planner.check(("huge", "vast"), ("huge", "small", "vast"))


def test_an_ask_is_priced_by_what_the_ranking_has_and_by_what_is_asked(planner: RlRounds, task: Task) -> None:
    bill, unit = planner._known.question.bill, planner._known.unit
    vector = task.request.embedding
    assert vector is not None
    shares = bill.shares(vector[None])[0]
    assert planner._foreseen(task, [0, 2], UNBOUNDED) == pytest.approx([COSTS[0] * shares[0] / unit, COSTS[2] * shares[2] / unit])
    unpriced = replace(task, ranking=tuple(replace(one, cost_usd=None) for one in task.ranking))
    usual = planner._known.costs(Prompts(vector[None], (TEXT,)))[0]
    assert planner._foreseen(unpriced, [1], UNBOUNDED) == pytest.approx([usual[1]])
    nearly = Budget(cost_usd=COSTS[2] * 0.999)
    assert planner._foreseen(task, [2], nearly) == pytest.approx([COSTS[2] / unit])  # which the gateway would not let it spend
    bare = replace(task, request=replace(task.request, embedding=None))
    assert planner._foreseen(bare, [0], UNBOUNDED) == pytest.approx([COSTS[0] / unit])


def test_without_an_embedding_it_goes_by_what_is_known_of_models(planner: RlRounds, task: Task) -> None:
    bare = replace(task, request=replace(task.request, embedding=None))
    _, end = play(planner, bare, AGREED)
    assert isinstance(end, Answer | Ask)


def test_at_most_so_many_are_asked(folder: Path, made: Recording) -> None:
    _, end = play(RlRounds(folder, cost_weight=0.0, max_asks=1), asking(made), AGREED)
    assert isinstance(end, Ask)


def test_it_is_found_and_its_parameters_are_checked(folder: Path) -> None:
    assert isinstance(Registry({("planners", "rl_rounds"): RlRounds}).build("planners", "rl_rounds", {"artifact": str(folder)}), RlRounds)
    with pytest.raises(BadPlugin, match="greater than or equal to 0"):
        Registry({("planners", "rl_rounds"): RlRounds}).build("planners", "rl_rounds", {"artifact": str(folder), "cost_weight": -1})


@pytest.mark.parametrize(("tensor", "complaint"), [("policy/gain/0", "missing"), ("policy/traits/cost", "missing")])
def test_an_artifact_that_lacks_something_is_refused(folder: Path, tmp_path: Path, tensor: str, complaint: str) -> None:
    broken = spoilt(folder, tmp_path, lambda tensors: {name: array for name, array in tensors.items() if name != tensor})
    with pytest.raises(BadArtifact, match=complaint):
        RlRounds(broken)


def test_an_artifact_with_numbers_that_are_none_is_refused(folder: Path, tmp_path: Path) -> None:
    broken = spoilt(folder, tmp_path, lambda tensors: {**tensors, "policy/gain/1": np.full_like(tensors["policy/gain/1"], np.nan)})
    with pytest.raises(BadArtifact, match="not finite"):
        RlRounds(broken)


def test_an_artifact_that_was_changed_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with (copy / "settings.json").open("a") as file:
        file.write(" ")
    with pytest.raises(BadArtifact, match="changed"):
        RlRounds(copy)


def resettled(folder: Path, tmp_path: Path, **changed: object) -> Path:
    """A copy with other settings, whose manifest vouches for them."""
    import hashlib

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    content = json.dumps({**json.loads((copy / "settings.json").read_text()), **changed}).encode()
    (copy / "settings.json").write_bytes(content)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["settings.json"] = hashlib.sha256(content).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def spoilt(folder: Path, tmp_path: Path, change) -> Path:  # type: ignore[no-untyped-def]
    """A copy with other tensors, whose manifest vouches for them."""
    import hashlib

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    tensors = change(load_file(copy / "tensors.safetensors"))
    content = save(tensors)
    (copy / "tensors.safetensors").write_bytes(content)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["tensors.safetensors"] = hashlib.sha256(content).hexdigest()
    manifest["tensors"] = {name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in tensors.items()}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy
