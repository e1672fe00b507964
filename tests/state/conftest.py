"""Where shared state is kept in these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_servers import KINDS, RedisServer, redis_server


@pytest.fixture(params=[*KINDS, "none"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer | None]:
    """Redis, Valkey, or None: in the process."""
    if request.param == "none":
        yield None
        return
    with redis_server(request.param) as found:
        yield found
