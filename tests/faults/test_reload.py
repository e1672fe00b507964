"""One configuration after another: nothing is lost, nothing half applies, and a bad one changes nothing. (Fault 30.)"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from backends.fake.engine import Latency
from gateway.source import ConfigError
from gateway.watching import Watch
from tests.gateways import Running, chat, events, fake, model, pair, route, serving, until
from tests.state.callers import Keys

STORY = "Tell me a story"
SLOW = Latency(tpot=20)


def without(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The same configuration without a model."""
    models = [section for section in config["models"] if section["name"] != name]
    return {**config, "models": models, "routes": [route(*(section["name"] for section in models))]}


def written(running: Running) -> dict[str, Any]:
    assert running.stage is not None
    return running.stage.written


def living(running: Running) -> int:
    assert running.stage is not None
    return len(running.stage.switch.living)


def sample(running: Running, name: str) -> dict[str, float]:
    """The series of a metric: labels as they are written -> value."""
    found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", running.gateway.metrics.text().decode(), re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_stream_goes_on_with_the_configuration_that_it_began_with() -> None:
    async with pair(latency=SLOW, words=40) as running:
        fleet = running.gateway.fleet
        async with running.client.stream("POST", "/v1/chat/completions", json=chat("small", STORY, stream=True)) as response:
            lines = response.aiter_lines()
            await anext(lines)
            await running.reload(without(written(running), "small"))
            assert living(running) == 2
            assert (await running.post(**chat("small"))).status_code == 404
            rest = [line async for line in lines]
        assert rest[-2] == "data: [DONE]"
        assert fleet["small"].pool.backends[0].inflight == 0
        assert await until(lambda: living(running) == 1)
        assert sample(running, "pointsman_requests_total")['code="200",endpoint="chat",model="small",route="none"'] == 1
        assert set(sample(running, "pointsman_backend_up")) == {f'backend="{running.fakes["large"].url.split("/")[2]}",model="large"'}


async def test_nothing_is_left_of_an_old_configuration() -> None:
    async with pair() as running, fake("third") as third:
        first = written(running)
        second = {**first, "models": [*first["models"], model("third", third.url)], "retries": {"budget_ratio": 0.3}}

        async def there_and_back() -> None:
            await running.reload(second)
            assert (await running.post(**chat("third"))).status_code == 200
            await running.reload(first)
            assert (await running.post(**chat("small"))).status_code == 200
            assert await until(lambda: living(running) == 1)
            assert await until(lambda: not running.gateway.deadlines)

        await there_and_back()
        tasks, files = len(asyncio.all_tasks()), descriptors()
        for _ in range(5):
            await there_and_back()
        assert await until(lambda: len(asyncio.all_tasks()) <= tasks, 10)
        assert await until(lambda: descriptors() <= files + 4, 10)  # kept connections come and go


async def test_what_its_settings_did_not_change_goes_on() -> None:
    async with pair() as running:
        before = running.gateway
        backend = before.fleet["small"].pool.backends[0]
        for _ in range(5):
            backend.breaker.failed()
        assert backend.breaker.state == "open"
        await running.reload({**written(running), "server": {"drain_seconds": 7}})
        after = running.gateway
        assert after is not before
        assert after.config.server.drain_seconds == 7
        assert after.fleet["small"].pool.backends[0] is backend
        for name in ("memory", "admission", "metrics", "journal", "ledger", "feedback", "snapshots", "deadlines", "ids"):
            assert getattr(after, name) == getattr(before, name)
        changed = written(running)
        changed["models"] = [model("small", running.fakes["small"].url, api_key="another"), changed["models"][1]]
        await running.reload(changed)
        renewed, other = running.gateway.fleet["small"].pool.backends[0], running.gateway.fleet["large"].pool.backends[0]
        assert (renewed is backend, renewed.breaker.state) == (False, "closed")
        assert other is after.fleet["large"].pool.backends[0]


async def test_memory_and_limits_survive(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    user = keys.add(rpm=4)
    async with pair(auth=keys.auth) as running:
        running.client.headers.update(user)
        first = await running.client.post("/v1/chat/completions", json=chat(), headers={"idempotency-key": "once"})
        assert first.status_code == 200
        await running.reload({**written(running), "server": {"drain_seconds": 7}})
        again = await running.client.post("/v1/chat/completions", json=chat(), headers={"idempotency-key": "once"})
        assert again.headers["idempotent-replayed"] == "true"
        decision = await running.client.get(f"/v1/decisions/{first.headers['x-router-decision-id']}")
        assert decision.status_code == 200
        assert (await running.post(**chat())).headers["x-router-cache"] == "hit"
        await running.reload({**written(running), "server": {"drain_seconds": 8}})
        statuses = [(await running.post(**chat())).status_code for _ in range(4)]
        assert statuses == [200, 200, 429, 429]


async def test_counters_go_on_and_labels_follow() -> None:
    async with pair() as running, fake("third") as third:
        await running.post(**chat("small"))
        first = sample(running, "pointsman_requests_total")
        bigger = {**written(running), "ledger": {"path": "/proc/nowhere/ledger"}}
        bigger["models"] = [*bigger["models"], model("third", third.url)]
        await running.reload(bigger)
        await running.post(**chat("third"))
        assert await until(lambda: running.gateway.ledger.failures > 0)
        counted = sample(running, "pointsman_requests_total")
        assert first.items() <= counted.items()
        assert counted['code="200",endpoint="chat",model="third",route="none"'] == 1
        assert sample(running, "pointsman_failures")['of="ledger"'] >= 1
        failures = sample(running, "pointsman_failures")['of="ledger"']
        await running.reload({**written(running), "ledger": {}})
        assert sample(running, "pointsman_failures")['of="ledger"'] >= failures
        version = next(iter(sample(running, "pointsman_config_info")))
        assert sample(running, "pointsman_config_info") == {version: 1.0}
        assert f'hash="{running.gateway.config.hash}"' in version
        assert sample(running, "pointsman_reloads_total") == {'result="ok"': 2.0, 'result="failed"': 0.0}


async def test_a_broken_configuration_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with pair() as running:
        good = written(running)
        before = running.gateway
        broken: list[dict[str, Any]] = [
            {**good, "models": []},
            {**good, "surprise": 1},
            {**good, "routes": [route("small", "large", scorers=[{"type": "knn", "artifact": "/nowhere"}])]},
            {**good, "auth": {"keys": "/nowhere/keys.yaml"}},
        ]
        for config in broken:
            with pytest.raises(ConfigError):
                await running.reload(config)
        assert running.stage is not None
        assert running.stage.switch.gateway is before
        assert living(running) == 1
        assert (await running.post(**chat())).status_code == 200
        assert sample(running, "pointsman_reloads_total") == {'result="ok"': 0.0, 'result="failed"': 4.0}
        errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert len(errors) == 4
        assert "test.yaml:1: surprise: unknown key" in errors[1]


async def test_a_reload_that_breaks_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with pair() as running:
        stage, before = running.stage, running.gateway
        assert stage is not None
        stage.breaks = ZeroDivisionError("a plugin's own words may be a secret")
        answer = await running.client.post("/admin/reload")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
        assert stage.switch.gateway is before
        assert "ZeroDivisionError at " in caplog.text
        assert "secret" not in caplog.text + answer.text
        stage.breaks = None
        assert (await running.client.post("/admin/reload")).status_code == 200


async def test_an_operator_asks_for_a_reload(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    user, admin = keys.add(), keys.add(role="admin")
    async with pair(auth=keys.auth) as running:
        assert running.stage is not None
        old = running.gateway.config.hash
        assert (await running.client.post("/admin/reload", headers=user)).status_code == 403
        assert (await running.client.post("/admin/reload")).status_code == 401
        running.stage.written["server"] = {"drain_seconds": 7}
        answer = await running.client.post("/admin/reload", headers=admin)
        new = running.stage.switch.gateway.config.hash
        assert (answer.status_code, answer.json()["hash"], answer.json()["before"]) == (200, new, old)
        assert old != new
        assert (await running.client.get("/admin/config", headers=admin)).json()["hash"] == new
        running.stage.written["routes"] = [route("small", "lagre")]
        answer = await running.client.post("/admin/reload", headers=admin)
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["code"]) == (400, "invalid_request_error", "invalid_value")
        assert error["param"] == "routes[0].models[1]"
        assert "did you mean 'large'?" in error["message"]
        assert (await running.client.get("/admin/config", headers=admin)).json()["hash"] == new


async def test_whoever_waits_for_a_place_gets_it_from_the_configuration_that_he_came_with() -> None:
    latency = Latency(tpot=20)
    async with pair(latency=latency, words=30, admission={"max_inflight": 1}) as running:
        config = written(running)
        first = asyncio.create_task(running.post(**chat("small", STORY)))
        assert await until(lambda: running.gateway.fleet["small"].pool.backends[0].inflight == 1)
        second = asyncio.create_task(running.post(**chat("small", STORY)))
        waiting = running.gateway.admission
        assert await until(lambda: sum(waiting.waiting.values()) == 1)
        await running.reload({**config, "admission": {"max_inflight": 1, "batch_share": 0.1}})
        assert running.gateway.admission is not waiting
        assert [answer.status_code for answer in await asyncio.gather(first, second)] == [200, 200]
        assert await until(lambda: living(running) == 1)


async def test_reloads_under_load_cost_no_request() -> None:
    async with pair(latency=Latency(tpot=1), words=20) as running:
        config, statuses = written(running), []
        over = asyncio.Event()

        async def ask(stream: bool) -> None:
            while not over.is_set():
                answer = await running.post(**chat(content=STORY, stream=stream))
                whole = not stream or events(answer.text)[-1] == "[DONE]"
                statuses.append(answer.status_code if whole else 0)

        asking = [asyncio.create_task(ask(number % 2 == 0)) for number in range(8)]
        for number in range(5):
            await running.reload({**config, "server": {"drain_seconds": 5 + number}, "retries": {"budget_minimum": number}})
            await asyncio.sleep(0.05)
        over.set()
        await asyncio.gather(*asking)
        assert set(statuses) == {200}
        assert await until(lambda: living(running) == 1)


async def test_redis_comes_and_goes() -> None:
    async with pair() as running:
        config = written(running)
        assert sample(running, "pointsman_redis_up") == {}
        await running.reload({**config, "redis": {"url": "redis://127.0.0.1:9/0"}})
        assert (await running.post(**chat())).status_code == 200
        assert await until(lambda: sample(running, "pointsman_redis_up") == {"": 0.0})
        store = running.gateway.memory.store
        await running.reload({**config, "redis": {"url": "redis://127.0.0.1:9/0"}, "server": {"drain_seconds": 7}})
        assert running.gateway.memory.store is store
        await running.reload(config)
        assert sample(running, "pointsman_redis_up") == {}
        assert (await running.post(**chat())).status_code == 200


async def test_learners_go_on_and_a_newly_trained_artifact_is_taken_up(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `embed` is not installed")
    from tests.learning.test_versions import write_clusters

    folder = write_clusters(tmp_path / "clusters")
    policy = route("small", "large", scorers=[{"type": "clusters", "artifact": str(folder), "learn_per_hour": 100}])
    async with fake("small") as small, fake("large") as large:
        config = {"models": [model("small", small.url), model("large", large.url)], "routes": [policy]}
        async with serving(config) as running:

            def scorer() -> Any:
                return running.gateway.routes["auto"].policy.scorers[0].scorer

            first = scorer()
            await running.reload({**config, "server": {"drain_seconds": 7}})
            assert scorer() is first
            assert len(running.gateway.snapshots) == 1
            manifest = folder / "manifest.json"
            manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "metrics": {"trained": 2.0}}))
            await running.reload({**config, "server": {"drain_seconds": 7}})
            assert scorer() is not first


async def test_a_file_that_changes_in_every_way(tmp_path: Path) -> None:
    def put(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    real, link = put("first", "one"), tmp_path / "config"
    link.symlink_to(real)
    watch = Watch(link)

    async def noticed(seconds: float = 10) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await watch.change()
        except TimeoutError:
            return False
        return True

    assert not await noticed(0.8)
    put("replacing", "two").replace(real)  # replaced in one step
    assert await noticed()
    (tmp_path / "next").symlink_to(put("second", "three"))
    (tmp_path / "next").replace(link)  # as Kubernetes renews a ConfigMap
    assert await noticed()
    os.utime(link)
    assert not await noticed(0.8)
    link.unlink()
    assert await noticed()
    link.write_text("four")
    watch.look()
    assert not await noticed(0.8)
