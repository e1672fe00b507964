"""A remembered decision is quick."""

from __future__ import annotations

import pytest

from tests.benchmarks.decisions import run


@pytest.mark.bench
@pytest.mark.timeout(120)
def test_a_remembered_decision_takes_less_than_100_us_here_and_1_ms_by_redis() -> None:
    figures = run()
    print(figures)
    assert figures["remembered here"]["p50"] < 100
    assert figures["remembered by Redis"]["p50"] < 1000
