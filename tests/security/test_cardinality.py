"""Whatever callers send, the number of series stays the same. (Fault 26.)"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import string
from pathlib import Path
from typing import Any

import httpx

from tests.gateways import Running, chat, pair, until

REQUESTS = 10_000
AT_ONCE = 100
KEYS = [f"pm_{number:043d}" for number in range(200)]
METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE")
BODIES = [
    chat(),
    chat(stream=True),
    chat("small"),
    chat("nope"),
    chat(router={"models": ["small"]}),
    chat(router={"models": ["nope"]}),
    chat(router={"max_latency_ms": 1}),
    {**chat(), "messages": 5},
]


class Caller:
    """Sends what a random generator makes up."""

    def __init__(self, running: Running, seed: int) -> None:
        self._rng = random.Random(seed)
        self._client = httpx.AsyncClient(base_url=running.url, timeout=60)
        self.statuses: set[int] = set()
        self.junk = ""

    async def aclose(self) -> None:
        await self._client.aclose()

    async def send(self, method: str, path: str, key: str, agent: str = "test", **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}", "user-agent": agent}
        response = await self._client.request(method, path, headers=headers, **more)
        self.statuses.add(response.status_code)
        return response

    async def series(self) -> set[str]:
        """Every series, without its value."""
        text = (await self.send("GET", "/metrics", "none")).text
        return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}

    async def odd(self) -> None:
        """One request of a random kind, with a random name in each place."""
        rng = self._rng
        self.junk = junk = "".join(rng.choices(string.ascii_letters + string.digits, k=12))
        good, session = rng.choice(KEYS), {"router": {"session": junk}}
        kind = rng.randrange(8)
        if kind == 0:
            await self.send("POST", "/v1/chat/completions", good, junk, json=chat(junk))
        elif kind == 1:
            await self.send("POST", "/v1/chat/completions", junk, junk, json=chat())
        elif kind == 2:
            await self.send(rng.choice(METHODS), f"/{junk}", good, junk)
        elif kind == 3:
            await self.send(rng.choice(METHODS), rng.choice(["/v1/chat/completions", "/v1/models", "/metrics", "/healthz"]), junk, junk)
        elif kind == 4:
            await self.send("POST", "/v1/route", good, junk, json=chat("auto", junk, user=junk, **session))
        elif kind == 5:
            await self.send("GET", f"/v1/{rng.choice(['decisions', 'models'])}/{junk}?a={junk}", good, junk)
        elif kind == 6:
            await self.send("POST", "/v1/feedback", good, junk, json={"decision_id": junk, "score": 1, "comment": junk})
        else:
            await self.send(
                "POST", "/v1/chat/completions", good, junk, json=chat("auto", junk, user=junk, fake_fault="status:200", **session)
            )

    async def warm_up(self) -> None:
        """Meets every status and every outcome that `odd` can bring."""
        for key in (KEYS[0], "none"):
            for body in BODIES:
                for path in ("/v1/chat/completions", "/v1/route"):
                    await self.send("POST", path, key, json=body)
            for method in METHODS:
                await self.send(method, "/v1/chat/completions", key)
        for _ in range(200):
            await self.odd()

    async def storm(self, requests: int) -> None:
        """So many requests, many of them at once."""
        left = iter(range(requests))

        async def one_after_the_other() -> None:
            for _ in left:
                await self.odd()

        await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))


async def test_ten_thousand_odd_requests_make_no_new_series(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in KEYS]
    path.write_text(json.dumps({"keys": [{"id": f"k{n}", "name": "x", "sha256": digest} for n, digest in enumerate(digests)]}))
    async with pair(auth={"keys": str(path)}, words=4) as running:
        caller = Caller(running, seed=26)
        await caller.warm_up()

        async def loads() -> bool:
            return (await running.client.get("/metrics")).text.count("pointsman_backend_waiting{") == 2

        assert await until(loads, 10), "both servers' loads are known"
        before = await caller.series()
        await caller.storm(REQUESTS)
        after = await caller.series()
        await caller.aclose()
        assert after - before == set()
        assert {200, 400, 401, 404, 405} <= caller.statuses
        assert not [status for status in caller.statuses if status >= 500 and status not in (503, 504)]
        assert caller.junk not in (await running.client.get("/metrics")).text
