"""The block of an evaluation: what it adds to the figures, and that resampling side by side gives what one by one gives."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from routers.learning.baselines import vertices
from routers.learning.calibration import bins, brier, expected_calibration_error
from routers.learning.evaluate import Judged, Pool, evaluate
from routers.learning.figures import WEIGHTS, Curve, Scale, curve, hull, picks
from routers.learning.outcomes import Outcomes, load
from routers.learning.resampling import hulls, interval, resamples
from tests.outcome_tables import reference, table


def pool(questions: int = 400, seed: int = 0) -> Pool:
    """A cheap model that is right on one kind of question, and a dear one that is right on both but for a few."""
    rng = np.random.default_rng(seed)
    easy = rng.random(questions) < 0.6
    scores = np.stack([easy & (rng.random(questions) < 0.97), rng.random(questions) < 0.85], axis=1).astype(np.float64)
    costs = np.tile([0.0001, 0.001], (questions, 1)) * rng.uniform(0.8, 1.2, (questions, 2))
    scale = Scale(scores.mean(axis=0), costs.mean(axis=0))
    kinds = np.where(easy, "d/easy", "d/hard")
    return Pool(("small", "large"), np.arange(questions), scores, costs, scale, kinds, np.where(rng.random(questions) < 0.5, "en", "de"))


def knowing(found: Pool) -> Judged:
    """Expected scores of a router that knows which kind a question is of."""
    assert found.datasets is not None
    small = np.where(found.datasets == "d/easy", 0.9, 0.0)
    expected = np.stack([small, np.full_like(small, 0.85)], axis=1)
    return Judged(expected, uncertainty=np.abs(expected - 0.5), decision_seconds=(0.0002, 0.0009))


@pytest.fixture(scope="module")
def block() -> dict[str, Any]:
    found = pool()
    same = Judged(np.tile(found.scale.scores, (len(found.rows), 1)))
    judged = {"knows": knowing(found), "guesses": same}
    return evaluate(found, judged, None)


def test_the_block_is_json_and_has_the_references_keys(block: dict[str, Any]) -> None:
    assert json.loads(json.dumps(block, allow_nan=False)) == block
    wanted = reference()["routellm2"]
    assert set(wanted) - {"validation_aiq_by_knob", "queries_by_split"} <= set(block)
    needs_validation = {"acc_at_validation_lambda", "cost_at_validation_lambda_usd", "gap_closed_at_validation_lambda", "knob"}
    assert set(wanted["routers"]["knn"]) - needs_validation <= set(block["routers"]["knows"])
    found = pool()
    both = evaluate(found, {"knows": Judged(knowing(found).expected, knowing(pool(200, 7)).expected)}, pool(200, 7))
    assert set(wanted["routers"]["knn"]) - {"knob"} <= set(both["routers"]["knows"])


def test_the_curve_leads_from_the_cheapest_to_the_most_accurate_and_its_weights_give_it(block: dict[str, Any]) -> None:
    found = pool()
    router = block["routers"]["knows"]
    corners = router["curve"]
    assert corners[-1][1] == router["acc_max"]
    assert corners[0][0] == pytest.approx(block["cost_axis_usd"][0])
    for cost, accuracy, weight in corners:
        chosen = picks(knowing(found).expected, found.scale, np.array([np.inf if weight is None else weight]))
        point = curve(chosen, found.scores, found.costs)
        assert (point.costs[0], point.accuracies[0]) == pytest.approx((cost, accuracy))


def test_what_is_saved_is_read_off_the_hull(block: dict[str, Any]) -> None:
    saved = block["routers"]["knows"]["savings"]
    assert list(saved) == ["100", "99", "98", "95"]
    best = block["best_single"]
    for key, one in saved.items():
        assert one["accuracy"] >= int(key) / 100 * best["accuracy"] - 1e-9
        assert one["usd_per_million"] == pytest.approx((best["mean_cost_usd"] - one["cost_usd"]) * 1e6)
        assert one["share"] == pytest.approx(1 - one["cost_usd"] / best["mean_cost_usd"])
        assert one["share_95"][0] <= one["share"] <= one["share_95"][1]
        assert one["share_95"][0] > 0.1
    assert saved["100"]["share"] == pytest.approx(1 - block["routers"]["knows"]["cost_match"])
    zero = block["zero_router"]["savings"]["100"]
    assert zero["usd_per_million"] == pytest.approx(0, abs=1e-6)


def test_differences_are_paired_and_the_other_way_round_they_change_sign(block: dict[str, Any]) -> None:
    knows, guesses = (block["routers"][name] for name in ("knows", "guesses"))
    assert set(knows["against"]) == {"guesses", "zero_router", "cheapest", "dearest", "best_single", "random_mix", "oracle"}
    there, back = knows["against"]["guesses"], guesses["against"]["knows"]
    assert there["aiq"] == pytest.approx(knows["aiq"] - guesses["aiq"])
    assert there["aiq_95"] == pytest.approx([-back["aiq_95"][1], -back["aiq_95"][0]])
    assert there["aiq_95"][0] > 0
    wide = guesses["aiq_95"][1] - guesses["aiq_95"][0]
    assert knows["against"]["zero_router"]["aiq_95"] == knows["aiq_gain_over_zero_95"]
    assert there["aiq_95"][1] - there["aiq_95"][0] < wide, "what both share does not count"
    assert knows["against"]["oracle"]["acc_max"] == pytest.approx(knows["acc_max"] - block["oracle"]["accuracy"])
    assert knows["against"]["oracle"]["aiq_95"][1] < 0


def test_a_router_that_learned_nothing_gains_nothing(block: dict[str, Any]) -> None:
    guesses = block["routers"]["guesses"]
    assert guesses["against"]["zero_router"]["aiq"] == pytest.approx(0)
    assert guesses["calibration_error"]["ece"] == pytest.approx(0, abs=0.25)


def test_groups_add_up_to_the_whole(block: dict[str, Any]) -> None:
    router = block["routers"]["knows"]
    for key in ("datasets", "languages"):
        parts = router[key].values()
        assert sum(part["queries"] for part in parts) == block["queries"]
        whole = sum(part["queries"] * part["best_single_accuracy"] for part in parts) / block["queries"]
        assert whole == pytest.approx(block["best_single"]["accuracy"])
    easy, hard = router["datasets"]["d/easy"], router["datasets"]["d/hard"]
    assert easy["mean_cost_usd"] < 0.0002 < hard["mean_cost_usd"]
    assert hard["gain"] == 0.0
    assert hard["gain_95"] == [0.0, 0.0]
    assert easy["gain_95"][0] <= easy["gain"] <= easy["gain_95"][1]
    assert sum(router["shares"].values()) == pytest.approx(1)


def test_what_a_router_says_of_itself_is_passed_on(block: dict[str, Any]) -> None:
    knows = block["routers"]["knows"]
    assert (knows["decision_p50_seconds"], knows["decision_p99_seconds"]) == (0.0002, 0.0009)
    assert len(knows["uncertainty"]["ece_by_quarter"]) == 4
    assert "uncertainty" not in block["routers"]["guesses"]


def test_a_router_with_a_baselines_name_is_refused() -> None:
    found = pool(40)
    with pytest.raises(ValueError, match="the name of a baseline: oracle"):
        evaluate(found, {"oracle": Judged(found.scores)}, None)


def test_calibration_by_hand() -> None:
    expected = np.repeat([0.2, 0.6], 15_000)
    scores = np.concatenate([np.arange(15_000) % 5 == 0, np.arange(15_000) % 2 == 0]).astype(np.float64)
    assert expected_calibration_error(expected, scores) == pytest.approx((0.0 + 0.1) / 2, abs=0.002)
    assert brier(expected, scores) == pytest.approx((0.2 * 0.8 + 0.5 * 0.5 + 0.01) / 2)
    assert [one.pairs for one in bins(expected, scores)] == [2_000] * 15
    assert expected_calibration_error(np.zeros(4), np.ones(4)) == 1.0
    assert len(bins(np.zeros(4), np.ones(4))) == 4


POINTS = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=30)


@hypothesis_settings(deadline=None, max_examples=60)
@given(st.lists(POINTS, min_size=1, max_size=6), st.floats(0, 1))
def test_hulls_side_by_side_are_those_one_by_one(many: list[list[tuple[float, float]]], wanted: float) -> None:
    size = max(map(len, many))
    filled = np.array([points + [points[-1]] * (size - len(points)) for points in many])
    costs, accuracies = filled[..., 0], filled[..., 1]
    least, most = np.full(len(many), 1.0), np.full(len(many), 7.0)
    found = hulls(costs, accuracies, least)
    areas, reached = found.areas(least, most), found.costs_of(np.full(len(many), wanted))
    for row in range(len(many)):
        one = hull(costs[row], accuracies[row], 1.0)
        assert areas[row] == pytest.approx(one.area(1.0, 7.0), abs=1e-9)
        cost = one.cost_of(wanted)
        assert np.isnan(reached[row]) if cost is None else reached[row] == pytest.approx(cost, abs=1e-9)
        # Between equal ends, as where all models cost the same.
        assert found.areas(least, least)[row] == pytest.approx(one.area(1.0, 1.0), abs=1e-9)


def test_the_corners_of_a_curve_name_the_greatest_weight() -> None:
    points = Curve(np.linspace(2, 1, len(WEIGHTS)).round(1), np.linspace(0.9, 0.5, len(WEIGHTS)).round(1))
    found = vertices(points, 0.5, WEIGHTS)
    assert found[0] == [1.0, 0.5, None]
    assert found[-1][2] is not None
    assert found[-1][2] > 0


def test_resamples_are_shares_and_always_the_same() -> None:
    assert resamples(7, 50).sum(axis=1) == pytest.approx(1)
    assert (resamples(7, 50) == resamples(7, 50)).all()
    assert interval(np.array([np.nan, 1.0, 3.0])) == pytest.approx([1.05, 2.95])
    assert np.isnan(interval(np.array([np.nan]))).all()


@pytest.mark.parametrize(("name", "file"), [("llmrouter9", "llmrouter"), ("routerarena2", "routerarena")])
def test_the_oracle_as_a_router_and_the_zero_router_on_recorded_outcomes(name: str, file: str) -> None:
    wanted = reference()[name]
    outcomes: Outcomes = load(table(file)).of([model["model"] for model in wanted["models"]])
    found = Pool.of(outcomes, "test")
    assert found.datasets is not None
    assert found.languages is not None
    assert (found.languages == "en").mean() > 0.9
    block = evaluate(found, {"knows": Judged(found.scores)}, None)
    knows = block["routers"]["knows"]
    assert block["zero_router"]["aiq"] == pytest.approx(wanted["zero_router"]["aiq"], abs=1e-3)
    assert knows["acc_max"] == pytest.approx(wanted["oracle"]["accuracy"], abs=1e-3)
    assert knows["calibration_error"]["ece"] == pytest.approx(0)
    assert knows["against"]["oracle"]["acc_max"] == pytest.approx(0)
    assert {name: part["queries"] for name, part in knows["datasets"].items()}.keys() == set(found.datasets.tolist())
