"""Whatever fails before the client's first byte goes to the next backend or model. (Faults 1, 2, 4, 5, 8, 9, 10.)"""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.gateways import chat, fake, model, pair, route, serving, until

QUICK = {"connect": 0.3, "first_byte": 0.3, "idle": 0.3, "total": 5}

BROKEN = [
    "reset_before_headers",
    "close_before_headers",
    "close_after_headers",
    "hang_before_headers",
    "hang_after_headers",
    "status:408",
    "status:429:1",
    "status:500",
    "status:502",
    "status:503",
    "status:504",
    "html",
    "no_content",
    "redirect:http://169.254.169.254/latest/meta-data",
    "bad_http",
    "gzip_bomb:5",
    "slow_headers",
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", BROKEN)
async def test_the_next_model_answers(fault: str, stream: bool) -> None:
    async with pair(small=[fault], timeouts=QUICK) as running:
        response = await running.post(**chat(stream=stream))
        assert response.status_code == 200
        assert response.headers["x-router-model"] == "large"
        assert response.headers["x-router-attempts"] == "2"
        if stream:
            assert response.text.count("data: [DONE]") == 1
        decision = (await running.client.get(f"/v1/decisions/{response.headers['x-router-decision-id']}")).json()
        assert [attempt["model"] for attempt in decision["attempts"]] == ["small", "large"]
        assert decision["attempts"][1]["outcome"] == "ok"


async def test_an_error_as_the_first_event_is_no_answer() -> None:
    async with pair(small=["error_first"], timeouts=QUICK) as running:
        response = await running.post(**chat(stream=True))
        assert response.headers["x-router-model"] == "large"
        assert "engine died" not in response.text


@pytest.mark.parametrize("fault", ["truncated", "cut_after:1", "reset_after:1", "hang_after:1", "giant_line:3", "drip:1"])
async def test_a_whole_answer_that_breaks_off_is_asked_elsewhere(fault: str) -> None:
    timeouts = {**QUICK, "total": 0.8}
    async with pair(small=[fault], timeouts=timeouts, server={"max_answer_bytes": 1_000_000}) as running:
        response = await running.post(**chat())
        assert (response.status_code, response.headers["x-router-model"]) == (200, "large")


async def test_a_refused_connection_and_a_name_that_nobody_knows() -> None:
    async with fake("large") as good:
        config = {
            "models": [model("small", "http://127.0.0.1:1/v1", "http://no-such-host.invalid:8000/v1"), model("large", good.url)],
            "routes": [route("small", "large")],
            "timeouts": QUICK,
            "health": {"interval_seconds": 60},
        }
        async with serving(config) as running:
            for _ in range(3):
                assert (await running.post(**chat())).headers["x-router-model"] == "large"


async def test_another_backend_of_the_same_model_comes_first() -> None:
    async with fake("small", "status:503") as bad, fake("small") as good, fake("large") as large:
        config = {"models": [model("small", bad.url, good.url), model("large", large.url)], "routes": [route("small", "large")]}
        async with serving(config) as running:
            answers = [await running.post(**chat(content=f"What is {n} + 1?")) for n in range(8)]
            assert {answer.headers["x-router-model"] for answer in answers} == {"small"}
            assert {answer.headers["x-router-attempts"] for answer in answers} <= {"1", "2"}


async def test_a_single_backend_is_tried_again_after_a_pause() -> None:
    async with fake("small", "status:503@first=1") as expert, serving({"models": [model("small", expert.url)]}) as running:
        response = await running.post(**chat("small"))
        assert (response.status_code, response.headers["x-router-attempts"]) == (200, "2")


async def test_retry_after_is_honoured() -> None:
    async with fake("small", "status:429:1@first=1") as expert, serving({"models": [model("small", expert.url)]}) as running:
        started = time.monotonic()
        assert (await running.post(**chat("small"))).status_code == 200
        assert time.monotonic() - started >= 1.0


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("status:500", 502, "upstream_error"),
        ("status:503", 502, "upstream_error"),
        ("status:429", 429, "overloaded"),
        ("reset_before_headers", 502, "upstream_error"),
        ("hang_before_headers", 504, "upstream_timeout"),
        ("html", 502, "upstream_error"),
        ("redirect:http://127.0.0.1:1/", 502, "upstream_invalid"),
        ("bad_http", 502, "upstream_invalid"),
    ],
)
async def test_when_nothing_is_left_the_error_says_so(fault: str, status: int, code: str) -> None:
    async with fake("small", fault) as expert:
        config = {"models": [model("small", expert.url)], "timeouts": QUICK, "retries": {"max_attempts": 2}}
        async with serving(config) as running:
            response = await running.post(**chat("small"))
            assert (response.status_code, response.json()["error"]["code"]) == (status, code)
            assert response.json()["error"]["type"] in ("server_error", "rate_limit_error")
            assert response.headers["x-router-attempts"] == "2"
            assert "127.0.0.1" not in response.text


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_client_errors_pass_and_never_count_against_a_backend(status: int) -> None:
    async with pair(small=[f"status:{status}"]) as running:
        for _ in range(8):
            response = await running.post(**chat())
            assert (response.status_code, response.headers["x-router-attempts"]) == (status, "1")
            assert response.json()["error"]["message"] == f"a fault was asked for: {status}"
        assert running.gateway.fleet["small"].pool.backends[0].breaker.state == "closed"


async def test_the_breaker_opens_and_closes_by_itself() -> None:
    async with pair(small=["status:500@first=5"]) as running:
        for _ in range(5):
            assert (await running.post(**chat())).headers["x-router-attempts"] == "2"
        breaker = running.gateway.fleet["small"].pool.backends[0].breaker
        assert breaker.state == "open"
        assert (await running.post(**chat(content="other"))).headers["x-router-attempts"] == "1"
        await asyncio.sleep(max(0.0, breaker.retry_at - time.monotonic()) + 0.05)
        assert (await running.post(**chat("small"))).headers["x-router-model"] == "small"
        assert breaker.state == "closed"


async def test_a_model_that_still_loads_is_no_candidate() -> None:
    async with pair(small=["loading:3"], health={"interval_seconds": 0.1}) as running:

        async def ready() -> dict[str, bool]:
            found: dict[str, bool] = (await running.client.get("/readyz")).json()["models"]
            return found

        async def only_large() -> bool:
            return await ready() == {"small": False, "large": True}

        async def both() -> bool:
            return await ready() == {"small": True, "large": True}

        assert await until(only_large, 2.5)
        assert (await running.post(**chat())).headers["x-router-model"] == "large"
        assert await until(both, 10)
        assert (await running.post(**chat(content="another question"))).headers["x-router-model"] == "small"


async def test_the_requests_own_deadline() -> None:
    async with pair(small=["hang_before_headers"], large=["hang_before_headers"]) as running:
        started = time.monotonic()
        response = await running.post(**chat(router={"max_latency_ms": 300}))
        assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert time.monotonic() - started < 1.5


async def test_retries_have_a_budget() -> None:
    async with pair(small=["status:500"], large=["status:500"], retries={"budget_ratio": 0.0, "budget_minimum": 0}) as running:
        response = await running.post(**chat())
        assert (response.status_code, response.headers["x-router-attempts"]) == (502, "1")
