"""A short run of `make chaos`: everything breaks and mends, and no request that somebody could have answered is lost. (All rows.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import run


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_half_a_minute_of_chaos(tmp_path: Path) -> None:
    findings, text = await run(tmp_path, seconds=30, seed=7, rate=12)
    print(f"\n{text}")
    assert [one.what for one in findings if one.holds is False] == []
