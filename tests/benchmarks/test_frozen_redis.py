"""A frozen Redis costs one timeout, once."""

from __future__ import annotations

import pytest

from tests.benchmarks.frozen_redis import measure


@pytest.mark.bench
@pytest.mark.timeout(180)
def test_a_frozen_redis_costs_one_timeout_once() -> None:
    found, _, _ = measure()
    print(found)
    assert found["errors"] == 0
    assert found["first_frozen_second_added_p99_ms"] < 60
    assert found["back_after_s"] < 5
    assert found["log_lines"] == [1, 1]
