"""The console: its page for anyone, its data for admins; decisions as they happen, replays, cost against quality, keys."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.api.console import HEADERS, assets
from gateway.errors import GatewayError
from gateway.memory import feed as feeds
from tests.gateways import Running, chat, fake, model, pair, route, serving, until
from tests.redis_servers import redis_server

ADMIN, USER = "pm_console-admin-key", "pm_console-user-key"
CANARY = "canary-51c0de"
WEIGHED = {"scorers": [{"type": "weights", "models": {"small": 0.5, "large": 0.9}}, {"type": "cost", "weight": 0.1}]}
DATA = [
    ("GET", "/admin/decisions/stream"),
    ("GET", "/admin/decisions/dec-0123"),
    ("GET", "/admin/frontier?route=auto"),
    ("POST", "/admin/replay"),
    ("GET", "/admin/keys"),
]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def guarded(folder: Path, **more: Any) -> dict[str, Any]:
    """Sections with an admin and a user, whose budget is a dollar a month."""
    entries = [
        {"id": "admin", "name": "Admin", "role": "admin", "sha256": hashlib.sha256(ADMIN.encode()).hexdigest()},
        {"id": "user", "name": "User", "budget_usd": 1.0, "models": ["small"], "sha256": hashlib.sha256(USER.encode()).hexdigest(), **more},
    ]
    (folder / "keys.yaml").write_text(json.dumps({"keys": entries}))
    return {"auth": {"keys": str(folder / "keys.yaml")}}


class Listener:
    """What a stream of decisions says, event by event."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self, name: str, seconds: float = 10) -> Any:
        """The data of the next event of this name; others are passed over."""
        async with asyncio.timeout(seconds):
            while True:
                line = await anext(self._lines)
                if line == f"event: {name}":
                    return json.loads((await anext(self._lines)).removeprefix("data: "))

    async def ended(self, seconds: float = 10) -> bool:
        async with asyncio.timeout(seconds):
            async for _ in self._lines:
                pass
        return True


@asynccontextmanager
async def listening(running: Running, recent: int = 0, key: str | None = None) -> AsyncIterator[Listener]:
    path, headers = f"/admin/decisions/stream?recent={recent}", {} if key is None else bearer(key)
    async with running.client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Listener(response.aiter_lines())


@pytest.mark.parametrize(("method", "path"), DATA)
async def test_data_is_for_admins_alone(method: str, path: str, tmp_path: Path) -> None:
    async with pair(**guarded(tmp_path)) as running:
        call = running.client.request
        assert (await call(method, path)).status_code == 401
        assert (await call(method, path, headers=bearer("pm_nobody"))).json()["error"]["code"] == "invalid_api_key"
        refused = await call(method, path, headers=bearer(USER))
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")


async def test_the_page_is_for_anyone_and_asks_nobody_else(tmp_path: Path) -> None:
    async with pair(**guarded(tmp_path)) as running:
        for path in ("/console", *(f"/console/{name}" for name in assets())):
            answer = await running.client.get(path)
            assert answer.status_code == 200, path
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS
            again = await running.client.get(path, headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            outside = answer.text.replace("http://www.w3.org/2000/svg", "")
            assert "http:" not in outside, path
            assert "https:" not in outside, path
            assert "innerHTML" not in outside, path
        page = (await running.client.get("/console")).text
        assert " style=" not in page
        assert "<style" not in page
        assert page.count("<script") == page.count("<script src=") + page.count('<script type="module" src=')
        for path in ("/console/nothing.js", "/console/../app.py", "/console/%2e%2e%2fapp.py", "/console/index.html/x"):
            assert (await running.client.get(path)).status_code == 404, path
    assert sum(len(asset.content) for asset in assets().values()) < 150_000


async def test_a_decision_is_told_as_soon_as_its_request_is_over() -> None:
    async with pair() as running:
        await running.post(**chat("auto", "before"))
        async with listening(running, recent=10) as heard:
            hello = await heard.next("hello")
            assert [row["chosen"] for row in hello["recent"]] == ["small"]
            assert hello["shared"] is False
            answer = await running.post(**chat("auto", "after", stream=True))
            row = await heard.next("decision")
            assert row["id"] == answer.headers["x-router-decision-id"]
            assert (row["route"], row["model"], row["status"], row["reason"]) == ("auto", "small", 200, "best_score")
            assert row["cost_usd"] > 0
            assert row["first_byte_ms"] <= row["ms"]
            assert 'pointsman_size{store="watchers"} 1.0' in (await running.client.get("/metrics")).text
            await running.post("/v1/route", **chat("auto", "a dry run"))
            await running.post(**chat("small", "named"))
            assert (await heard.next("decision"))["reason"] == "named"
        assert await until(lambda: len(running.gateway.memory.feed) == 0)


async def test_an_opened_decision_is_whole_and_keeps_texts_to_itself(tmp_path: Path) -> None:
    policy = {"scorers": [{"type": "cost"}], "planner": {"type": "cascade", "judge": {"type": "agreement"}, "max_calls": 3}}
    async with pair(**guarded(tmp_path, models=None), routes=[route("small", "large", **policy)]) as running:
        answer = await running.client.post("/v1/chat/completions", json=chat("auto", "hello"), headers=bearer(USER))
        place = f"/admin/decisions/{answer.headers['x-router-decision-id']}"
        own = (await running.client.get(place.replace("admin", "v1"), headers=bearer(USER))).json()
        seen = (await running.client.get(place, headers=bearer(ADMIN))).json()
        assert own["rounds"][0]["text"]
        assert seen == {**own, "rounds": [{**one, "text": None} for one in own["rounds"]]}
        for query in ("", "?caller=user", "?caller=no%20one", "?caller=" + "x" * 64):
            missing = await running.client.get(f"/admin/decisions/dec-{'0' * 24}{query}", headers=bearer(ADMIN))
            assert (missing.status_code, missing.json()["error"]["code"]) == (404, "decision_not_found")


async def test_watchers_are_bounded_and_whoever_is_slow_is_told_what_was_left_out() -> None:
    feed = feeds.Feed(None, "here")
    async with pair() as running, AsyncExitStack() as stack:
        await running.post(**chat("auto", "one"))
        record = running.gateway.memory.decisions.newest(1)[0]
        watchers = [stack.enter_context(feed.watch()) for _ in range(feeds.MOST_WATCHERS)]
        with pytest.raises(GatewayError, match="watch already"):
            stack.enter_context(feed.watch())
        for _ in range(feeds.KEPT + 7):
            feed.publish(record)
        lines, dropped = await watchers[0].take(1)
        assert (len(lines), dropped) == (feeds.KEPT, 7)
        assert await watchers[0].take(0.01) == ([], 0)
        assert feed.dropped == 7 * feeds.MOST_WATCHERS

        all_heard = [await stack.enter_async_context(listening(running)) for _ in range(feeds.MOST_WATCHERS)]
        for heard in all_heard:
            await heard.next("hello")
        refused = await running.client.get("/admin/decisions/stream")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert refused.headers["retry-after"]


async def test_a_stream_ends_when_another_configuration_is_in_force_and_when_the_process_ends() -> None:
    async with pair(server={"drain_seconds": 20}) as running:
        assert running.stage is not None
        before = running.stage.switch
        async with listening(running) as heard:
            await heard.next("hello")
            await running.reload({**running.stage.written, "cache": {"size": 5}})
            assert (await heard.next("bye"))["why"] == "reloaded"
            assert await heard.ended()
        assert await until(lambda: len(before.living) == 1, 10)
        async with listening(running) as heard:
            await heard.next("hello")
            running.stage.server.stop()
            assert (await heard.next("bye"))["why"] == "ending"
            assert await heard.ended()


@asynccontextmanager
async def two_gateways(folder: Path) -> AsyncIterator[tuple[Running, Running]]:
    with redis_server() as server:
        async with AsyncExitStack() as stack:
            small, large = [await stack.enter_async_context(fake(name)) for name in ("small", "large")]
            whole = {
                "models": [model("small", small.url), model("large", large.url)],
                "routes": [route("small", "large")],
                "redis": {"url": server.url, "timeout_ms": 2000},
                **guarded(folder),
            }
            first = await stack.enter_async_context(serving(whole))
            second = await stack.enter_async_context(serving(whole))
            yield first, second


async def test_gateways_over_a_redis_show_each_others_decisions(tmp_path: Path) -> None:
    async with two_gateways(tmp_path) as (first, second):
        feed = second.gateway.memory.feed
        before = await second.client.post("/v1/chat/completions", json=chat("auto", "nobody watches"), headers=bearer(USER))
        async with listening(first, key=ADMIN) as heard:
            assert (await heard.next("hello"))["shared"] is True
            assert await until(lambda: feed._wanted, 10)
            answers = []
            for number in range(feeds.MOST_IN_BATCH + 20):
                answers.append(await second.client.post("/v1/chat/completions", json=chat("auto", f"{number}"), headers=bearer(USER)))
            rows = [await heard.next("decision") for _ in answers]
            assert [row["id"] for row in rows] == [answer.headers["x-router-decision-id"] for answer in answers]
            assert {row["place"] for row in rows} == {feed.place}
            assert before.headers["x-router-decision-id"] not in [row["id"] for row in rows]
            here = await first.client.post("/v1/chat/completions", json=chat("auto", "here"), headers=bearer(USER))
            assert (await heard.next("decision"))["id"] == here.headers["x-router-decision-id"]
            place = f"/admin/decisions/{rows[0]['id']}"
            assert (await first.client.get(place, headers=bearer(ADMIN))).status_code == 404
            opened = await first.client.get(f"{place}?caller=user", headers=bearer(ADMIN))
            assert opened.json()["id"] == rows[0]["id"]
        assert await until(lambda: not feed._wanted, 15)
        spent = (await first.client.get("/admin/keys", headers=bearer(ADMIN))).json()["keys"][1]
        assert spent["spent_usd"] > 0
        assert spent["spent_here_only"] is False


async def test_a_flood_is_told_in_part_with_how_many_are_left_out(tmp_path: Path) -> None:
    async with two_gateways(tmp_path) as (first, second):
        answer = await second.client.post("/v1/chat/completions", json=chat("auto", "one"), headers=bearer(USER))
        assert answer.status_code == 200
        feed, record = second.gateway.memory.feed, second.gateway.memory.decisions.newest(1)[0]
        async with listening(first, key=ADMIN) as heard:
            await heard.next("hello")
            assert await until(lambda: feed._wanted, 10)
            for _ in range(feeds.MOST_IN_BATCH + 500):
                feed.publish(record)
            assert (await heard.next("dropped"))["count"] == 500


async def test_keys_are_shown_without_keys(tmp_path: Path) -> None:
    async with pair() as running:
        assert (await running.client.get("/admin/keys")).json() == {"open": True, "tokens": False, "total": 0, "keys": []}
    async with pair(**guarded(tmp_path)) as running:
        await running.client.post("/v1/chat/completions", json=chat("small", "hello"), headers=bearer(USER))
        answer = await running.client.get("/admin/keys", headers=bearer(ADMIN))
        admin, user = answer.json()["keys"]
        assert (admin["id"], admin["role"], admin["spent_usd"]) == ("admin", "admin", None)
        assert (user["budget_usd"], user["budget_window"], user["models"]) == (1.0, "month", ["small"])
        assert 0 < user["spent_usd"] < 0.01
        for secret in (ADMIN, USER):
            assert secret not in answer.text
            assert hashlib.sha256(secret.encode()).hexdigest() not in answer.text
        page = (await running.client.get("/admin/keys?offset=1&limit=1", headers=bearer(ADMIN))).json()
        assert ([one["id"] for one in page["keys"]], page["total"]) == (["user"], 2)
        assert (await running.client.get("/admin/keys?limit=9999", headers=bearer(ADMIN))).status_code == 400


async def test_a_secret_is_in_no_answer_of_the_console(tmp_path: Path) -> None:
    """Fault 27: prompts, answers, comments and keys are nowhere in what operators see here."""
    key = f"pm_{CANARY}"
    entry = {"id": "ann", "name": "Ann", "role": "admin", "budget_usd": 5, "sha256": hashlib.sha256(key.encode()).hexdigest()}
    (tmp_path / "keys.yaml").write_text(json.dumps({"keys": [entry]}))
    policy = {**WEIGHED, "planner": {"type": "cascade", "judge": {"type": "agreement"}, "max_calls": 3}}
    sections: Mapping[str, Any] = {
        "auth": {"keys": str(tmp_path / "keys.yaml")},
        "routes": [route("small", "large", **WEIGHED), route("small", "large", name="careful", **policy)],
    }
    async with pair(**sections) as running:
        running.client.headers.update(bearer(key))
        seen = []
        async with listening(running) as heard:
            await heard.next("hello")
            for name in ("auto", "careful"):
                answer = await running.post(**chat(name, f"{CANARY} is my password", user=CANARY), router={"session": f"{CANARY}-s"})
                assert answer.status_code == 200
                seen.append(json.dumps(await heard.next("decision")))
                seen.append((await running.client.get(f"/admin/decisions/{answer.headers['x-router-decision-id']}")).text)
        for path in ("/console", "/admin/keys", "/admin/frontier?route=auto", "/admin/backends"):
            seen.append((await running.client.get(path)).text)
        seen.append((await running.post("/admin/replay", route="auto", weight=2)).text)
    assert CANARY not in "".join(seen)
    assert hashlib.sha256(key.encode()).hexdigest() not in "".join(seen)
