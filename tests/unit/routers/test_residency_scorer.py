"""What waking costs, as an opinion."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from routers.api import RouteRequest
from routers.registry import BadPlugin, Registry
from routers.scorers.residency import Residency
from tests.unit.routers.plugins import candidate


def opinions(*seconds: float | None) -> dict[str, float]:
    found = [replace(candidate(f"m{index}"), wake_seconds=one) for index, one in enumerate(seconds)]
    return dict(Residency(horizon_seconds=10).score(RouteRequest(), found))


def test_awake_is_1_and_beyond_the_horizon_0() -> None:
    assert opinions(0.0, 2.5, 10.0, 60.0, math.inf) == {"m0": 1.0, "m1": 0.75, "m2": 0.0, "m3": 0.0, "m4": 0.0}


def test_a_model_that_never_sleeps_counts_as_awake_beside_those_that_do() -> None:
    assert opinions(None, 5.0) == {"m0": 1.0, "m1": 0.5}
    assert opinions(None, None) == {}


def test_the_weight_says_what_waiting_is_worth() -> None:
    """Better by 0.2 and 4 s away: worth it if 10 s are worth 0.4 of score, not if they are worth 0.6."""
    awake, asleep = 0.6, 0.8
    said = opinions(0.0, 4.0)
    assert asleep + 0.4 * said["m1"] > awake + 0.4 * said["m0"]
    assert asleep + 0.6 * said["m1"] < awake + 0.6 * said["m0"]


def test_it_is_a_plugin_and_its_parameter_is_checked() -> None:
    found = Registry({("scorers", "residency"): Residency})
    assert found.build("scorers", "residency", {"horizon_seconds": 3}).score(
        RouteRequest(), [replace(candidate("a"), wake_seconds=1.5)]
    ) == {"a": 0.5}
    with pytest.raises(BadPlugin):
        found.build("scorers", "residency", {"horizon_seconds": 0})
