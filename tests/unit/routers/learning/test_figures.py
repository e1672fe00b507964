"""Curves and the figures read off them; on recorded outcomes the single models give the reference's own figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.learning.figures import Scale, aiq, curve, figures, hull, oracle, pair_figures, picks, singles
from routers.learning.outcomes import Outcomes, load
from tests.outcome_tables import reference, table

TABLES = {
    "routerarena2": "routerarena",
    "llmrouter9": "llmrouter",
    "mmlupro-ladder8": "mmlupro",
    "routellm2": "routellm",
    "mmlupro-peers4": "mmlupro",
    "mmlupro-mid6": "mmlupro",
}


@pytest.fixture(scope="module")
def tables() -> dict[str, Outcomes]:
    return {}


def pool(name: str, tables: dict[str, Outcomes]) -> Outcomes:
    file = TABLES[name]
    if file not in tables:
        tables[file] = load(table(file))
    return tables[file].of([model["model"] for model in reference()[name]["models"]]).complete()


@pytest.mark.parametrize("name", TABLES)
def test_the_single_models_and_the_oracle_give_the_references_figures(name: str, tables: dict[str, Outcomes]) -> None:
    wanted, found = reference()[name], pool(name, tables)
    train, test = found.split("train"), found.split("test")
    assert {split: len(found.split(split)) for split in ("train", "validation", "test")} == wanted["queries_by_split"]
    scale = Scale(train.scores.mean(axis=0), train.costs.mean(axis=0))
    for place, model in enumerate(wanted["models"]):
        assert test.scores[:, place].mean() == pytest.approx(model["accuracy"], abs=1e-3)
        assert test.costs[:, place].mean() == pytest.approx(model["mean_cost_usd"], rel=1e-3)
    assert test.models[scale.best_single] == wanted["best_single"]["model"]
    assert test.models[int(np.argmin(scale.costs))] == wanted["cheapest"]["model"]
    assert test.scores.mean() == pytest.approx(wanted["random_mix"]["accuracy"], abs=1e-3)
    accuracy, cost = oracle(test.scores, test.costs)
    assert accuracy == pytest.approx(wanted["oracle"]["accuracy"], abs=1e-3)
    assert cost == pytest.approx(wanted["oracle"]["mean_cost_usd"], rel=1e-3)
    assert aiq(singles(test.scores, test.costs), test.scores, test.costs) == pytest.approx(wanted["zero_router"]["aiq"], abs=1e-3)
    # A router that knows the outcomes is the oracle: nothing is left of the gap.
    perfect = figures(curve(picks(test.scores, scale), test.scores, test.costs), test.scores, test.costs, scale)
    assert perfect.gap_closed == pytest.approx(1.0)
    assert perfect.gain_over_zero > 0


def test_two_models_by_hand() -> None:
    scores = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    costs = np.array([[1.0, 3.0]] * 4)
    scale = Scale(scores.mean(axis=0), costs.mean(axis=0))
    assert scale.best_single == 1
    flat = singles(scores, costs)
    assert aiq(flat, scores, costs) == pytest.approx((0.25 + 0.75) / 2)
    perfect = figures(curve(picks(scores, scale), scores, costs), scores, costs, scale)
    # At cost 2 the two questions that only the dear one answers go to it: as good as always the dear one.
    assert perfect.max_accuracy == 0.75
    assert perfect.cost_match == pytest.approx(2 / 3)
    assert perfect.aiq == pytest.approx((0.5 * (0.25 + 0.75) * 1 + 0.75 * 1) / 2)
    pair = pair_figures(scores, scores, scale)
    assert pair is not None
    assert (pair.cpt50, pair.cpt80) == (0.25, 0.5)
    assert pair.apgr == pytest.approx(0.75)
    assert pair_figures(scores, np.array([[1.0, 0.0]] * 4), scale) is None


POINTS = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=40)


@given(POINTS)
def test_a_hull_is_concave_and_above_every_point(points: list[tuple[float, float]]) -> None:
    costs, accuracies = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    found = hull(costs, accuracies, 1.0)
    for cost, accuracy in points:
        assert found.at(max(cost, 1.0)) >= accuracy - 1e-9
    assert (np.diff(found.costs) > 0).all()
    assert (np.diff(found.accuracies) > 0).all()
    slopes = np.diff(found.accuracies) / np.diff(found.costs)
    assert (np.diff(slopes) <= 1e-6 * np.maximum(1, np.abs(slopes[:-1]))).all()
    assert {(c, a) for c, a in zip(found.costs, found.accuracies, strict=True)} <= {(max(c, 1.0), a) for c, a in points}


@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_no_router_beats_the_oracle_nor_loses_to_coins(models: int, questions: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, costs = rng.random((questions, models)), np.tile(np.sort(rng.random(models)) + 0.01, (questions, 1))
    scale = Scale(scores.mean(axis=0), costs.mean(axis=0))
    found = figures(curve(picks(rng.random((questions, models)), scale), scores, costs), scores, costs, scale)
    assert found.max_accuracy <= oracle(scores, costs)[0] + 1e-9
    perfect = figures(curve(picks(scores, scale), scores, costs), scores, costs, scale)
    assert perfect.aiq >= found.aiq - 1e-9
    assert perfect.gain_over_zero >= -1e-9
