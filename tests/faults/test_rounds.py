"""Plans of more than one call, on sockets: what the client gets, what each ask may do, and what is left behind. (Rows 15 and 24 too.)"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from backends.fake.engine import Latency
from routers.api import Answer, Ask, Budget, Need, Task, Transcript
from routers.registry import Registry
from tests.gateways import Running, chat, events, fake, model, route, serving, until

Says = Callable[[Task, Transcript, Budget], Sequence[Ask] | Answer]


def scripted(says: Says) -> type:
    """A planner that does what a function says."""

    class Scripted:
        needs: frozenset[Need] = frozenset({"text"})

        def next(self, task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
            return says(task, so_far, left)

    return Scripted


@asynccontextmanager
async def planned(
    says: Says, small: Sequence[str] = (), large: Sequence[str] = (), latency: Latency | None = None, words: int = 24, **more: Any
) -> AsyncIterator[Running]:
    """A route `auto` over two experts, whose planner does what a function says."""
    registry = Registry({("planners", "scripted"): scripted(says)})
    experts = fake("small", *small, latency=latency, words=words), fake("large", *large, latency=latency, words=words)
    async with experts[0] as cheap, experts[1] as dear:
        routed = route("small", "large", scorers=[{"type": "cost"}], planner={"type": "scripted"})
        config = {"models": [model("small", cheap.url), model("large", dear.url)], "routes": [routed], **more}
        async with serving(config, registry) as running:
            running.fakes = {"small": cheap, "large": dear}
            yield running


def asked(running: Running, name: str) -> list[dict[str, Any]]:
    """The bodies that an expert has got."""
    return [json.loads(record.body) for record in running.fakes[name].records if record.method == "POST"]


def asks_both(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
    """Both models side by side; the answer is what both said."""
    if not so_far.turns and not so_far.running:
        return [Ask((name,), final=False, purpose=name) for name in ("small", "large")]
    if len(so_far.turns) < 2:
        return ()
    return Answer(" | ".join(f"{turn.model}: {turn.text if turn.error is None else turn.error}" for turn in so_far.turns), "large")


def asks_then_relays(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
    """The small one thinks, and the large one answers."""
    if not so_far.turns:
        return [Ask(("small",), final=False, purpose="think", max_tokens=5)]
    return [Ask(("large",), prompt=(("user", f"Repeat: {so_far.turns[0].text}"),))]


async def test_a_composed_answer_is_an_ordinary_completion_with_all_that_it_took() -> None:
    async with planned(asks_both) as running:
        response = await running.post(**chat())
        body = response.json()
        assert (response.status_code, body["object"], body["model"], response.headers["x-router-model"]) == (
            200,
            "chat.completion",
            "large",
            "large",
        )
        assert "small: " in body["choices"][0]["message"]["content"]
        assert response.headers["x-router-attempts"] == "2"
        document = (await running.client.get(f"/v1/decisions/{response.headers['x-router-decision-id']}")).json()
        rounds = document["rounds"]
        assert {one["purpose"] for one in rounds} == {"small", "large"}
        assert body["usage"]["completion_tokens"] == sum(one["completion_tokens"] for one in rounds)
        assert document["cost_usd"] == pytest.approx(sum(one["cost_usd"] for one in rounds))
        assert float(response.headers["x-router-cost-usd"]) == pytest.approx(document["cost_usd"], abs=1e-9)


async def test_a_composed_answer_is_streamed_with_its_thoughts_if_the_client_asks() -> None:
    async with planned(asks_both) as running:
        plain = events((await running.post(**chat(stream=True, stream_options={"include_usage": True}))).text)
        assert plain[-1] == "[DONE]"
        assert all("reasoning_content" not in one["choices"][0]["delta"] for one in plain[:-2])
        assert plain[-2]["usage"]["completion_tokens"] > 0
        said = "".join(one["choices"][0]["delta"].get("content") or "" for one in plain[:-2])
        assert "large: " in said
        explained = events((await running.post(**chat(stream=True, router={"explain": True}))).text)
        thoughts = [one["choices"][0]["delta"]["reasoning_content"] for one in explained[:2]]
        assert {thought.split(":")[0] for thought in thoughts} == {"[small", "[large"}


async def test_a_final_ask_is_relayed_and_counts_what_came_before() -> None:
    async with planned(asks_then_relays) as running:
        whole = (await running.post(**chat())).json()
        assert whole["model"] == "large"
        assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
        assert asked(running, "large")[-1]["messages"][0]["content"].startswith("Repeat: ")
        streamed = events((await running.post(**chat(stream=True, stream_options={"include_usage": True}))).text)
        assert streamed[-1] == "[DONE]"
        assert streamed[-2]["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
        inner = asked(running, "small")[-1]
        assert ("stream" in inner, inner["max_tokens"]) == (False, 5)


async def test_a_failing_ask_is_an_event_and_never_an_error() -> None:
    async with planned(asks_both, small=["status:500"], retries={"max_attempts": 1}) as running:
        body = (await running.post(**chat())).json()
        assert "small: upstream_error" in body["choices"][0]["message"]["content"]


async def test_what_can_no_longer_change_the_answer_is_cancelled() -> None:
    def first_wins(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        if so_far.turns:
            return Answer(so_far.turns[0].text or "", so_far.turns[0].model)
        return [Ask((name,), final=False) for name in ("small", "large")]

    async with planned(first_wins, large=["hang_before_headers"]) as running:
        response = await running.post(**chat())
        assert (response.status_code, response.headers["x-router-model"]) == (200, "small")
        assert await until(lambda: all(b.inflight == 0 for served in running.gateway.fleet for b in served.pool.backends), 2)


async def test_money_is_a_hard_bound() -> None:
    seen: list[float | None] = []

    def spends(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        seen.append(left.cost_usd)
        if len(so_far.turns) < 6:
            return [Ask(("large",), final=False, max_tokens=50)]
        return Answer(" ".join(turn.error or "ok" for turn in so_far.turns))

    async with planned(spends) as running:
        response = await running.post(**chat(router={"max_cost_usd": 0.0002}))
        outcomes = response.json()["choices"][0]["message"]["content"].split()
        assert outcomes[0] == "ok"
        assert outcomes[-1] == "max_cost"
        document = (await running.client.get(f"/v1/decisions/{response.headers['x-router-decision-id']}")).json()
        assert document["cost_usd"] <= 0.0002
        assert all(one is not None for one in seen)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_in_an_inner_ask_ends_it(stream: bool) -> None:
    async with planned(asks_both, small=["hang_before_headers"], large=["hang_before_headers"]) as running:
        task = asyncio.create_task(running.post(**chat(stream=stream)))
        backends = [backend for served in running.gateway.fleet for backend in served.pool.backends]
        assert await until(lambda: all(backend.inflight == 1 for backend in backends), 5)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, httpx.HTTPError)):
            await task
        assert await until(lambda: all(backend.inflight == 0 for backend in backends), 3)
        assert await until(lambda: running.lines()[-1]["status"] == 499 if running.lines() else False, 3)


async def test_a_planner_without_an_end_is_ended() -> None:
    def forever(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        return [Ask(("small",), final=False, max_tokens=1)]

    async with planned(forever) as running:
        response = await running.post(**chat())
        assert response.status_code == 200
        assert int(response.headers["x-router-attempts"]) == 65


async def test_asks_for_models_that_the_caller_may_not_use_fail(tmp_path: Any) -> None:
    from tests.state.callers import Keys

    keys = Keys(tmp_path)
    key = keys.add(models=["small"])
    async with planned(asks_both, auth=keys.auth) as running:
        response = await running.client.post("/v1/chat/completions", json=chat(), headers=key)
        assert "large: not_allowed" in json.dumps(response.json())
        assert asked(running, "large") == []


async def test_other_endpoints_are_one_call() -> None:
    async with planned(asks_both) as running:
        response = await running.post("/v1/completions", model="auto", prompt="The train")
        assert (response.status_code, response.headers["x-router-attempts"]) == (200, "1")


@pytest.mark.parametrize(
    "planner",
    [
        {"type": "cascade", "judge": {"type": "agreement"}, "max_calls": 2},
        {"type": "ensemble", "k": 2, "combine": "majority"},
    ],
    ids=["cascade", "ensemble"],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_built_in_planners_answer_and_outlive_a_broken_expert(planner: dict[str, Any], stream: bool) -> None:
    async with fake("small") as small, fake("large", "status:500") as large:
        routed = route("small", "large", scorers=[{"type": "cost"}], planner=planner)
        config = {"models": [model("small", small.url), model("large", large.url)], "routes": [routed], "retries": {"max_attempts": 1}}
        async with serving(config) as running:
            response = await running.post(**chat("auto", "What is 17 + 25?", stream=stream))
            assert response.status_code == 200
            assert "42" in (response.text if stream else response.json()["choices"][0]["message"]["content"])


async def test_a_planner_that_contradicts_its_route_is_refused() -> None:
    from gateway.config import validate
    from gateway.policies import build_routes
    from gateway.source import ConfigError, Source

    routed = route("small", scorers=[{"type": "cost"}], planner={"type": "cascade", "judge": {"type": "agreement"}})
    source = Source("test.yaml", {"models": [model("small", "http://127.0.0.1:1/v1")], "routes": [routed]})
    with pytest.raises(ConfigError, match=r"routes\[0\]\.policy\.planner\.type: a cascade needs a route of at least two models"):
        build_routes(validate(source), Registry(), source)


async def test_what_the_client_wants_of_the_answers_words_is_not_wanted_of_what_is_asked_on_the_way() -> None:
    wanted = {"stop": ["END"], "min_tokens": 4, "logit_bias": {"7": -100}, "top_p": 0.5}

    def says(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        if not so_far.turns:
            return [Ask(("small",), final=False, prompt=(("user", "What do you think?"),))]
        return [Ask(("large",), prompt=(("user", "Say it."),))]

    async with planned(says) as running:
        assert (await running.post(**chat(**wanted))).status_code == 200
        (inner,), (last,) = asked(running, "small"), asked(running, "large")
        assert {name: inner.get(name) for name in wanted} == {"stop": None, "min_tokens": None, "logit_bias": None, "top_p": 0.5}
        assert {name: last.get(name) for name in wanted} == wanted


@pytest.mark.parametrize(
    "form", [{"structured_outputs": {"choice": ["yes", "no"]}}, {"guided_regex": "[0-9]+"}, {"guided_json": {"type": "object"}}]
)
async def test_an_answer_of_a_given_form_is_one_models_own(form: dict[str, Any]) -> None:
    async with planned(asks_then_relays) as running:
        response = await running.post(**chat(**form))
        assert response.status_code == 200
        document = (await running.client.get(f"/v1/decisions/{response.headers['x-router-decision-id']}")).json()
        assert document["rounds"] == []
        bodies = asked(running, "small") + asked(running, "large")
        assert len(bodies) == 1
        assert bodies[0][next(iter(form))] == next(iter(form.values()))


async def test_a_form_that_is_not_asked_for_changes_nothing() -> None:
    async with planned(asks_then_relays) as running:
        assert (await running.post(**chat(guided_json=None))).json()["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
