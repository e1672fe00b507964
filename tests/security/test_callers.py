"""Who is let in, and what each caller may reach: whatever policies, planners and breakdowns would like. (Faults 23, 24.)"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from backends.fake.server import FakeServer
from gateway.guard.keys import new_key
from routers.api import Answer, Ask, Budget, Candidate, Need, RouteRequest, Task, Transcript
from routers.registry import Registry
from tests.gateways import Running, chat, fake, model, route, serving, until
from tests.security.issuers import AUDIENCE, ISSUER, RSA, RSA_NEXT, issuing, jwk, token

CALLS = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/small"),
    ("POST", "/v1/route"),
    ("GET", "/v1/decisions/dec-1"),
    ("POST", "/v1/feedback"),
    ("GET", "/admin/config"),
    ("GET", "/admin/backends"),
]
PROXIES = [path for method, path in CALLS[:3]]
PAST = "2020-01-01"


class Dear:
    """Wants the large model, whoever asks; or breaks."""

    needs: frozenset[Need] = frozenset()
    instant = True
    predicts: Literal["preference"] = "preference"

    def __init__(self, broken: bool = False) -> None:
        self._broken = broken

    def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        if self._broken:
            raise RuntimeError("broken")
        return {candidate.name: float(candidate.name == "large") for candidate in candidates}


class Stubborn:
    """A planner that asks the large model first, whatever was decided; alone, if it is told so."""

    needs: frozenset[Need] = frozenset()

    def __init__(self, alone: bool = False) -> None:
        self._models = ("large",) if alone else ("large", "small")

    def next(self, task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        return [Ask(self._models)]


PLUGINS = Registry({("scorers", "dear"): Dear, ("planners", "stubborn"): Stubborn})


class Keys:
    """A keys file that a test rewrites. `rights`: of each entry, by its id."""

    def __init__(self, folder: Path, **rights: dict[str, Any]) -> None:
        self.path = folder / "keys.yaml"
        self._made = {id: new_key() for id in rights}
        self.write(**rights)

    def write(self, **rights: dict[str, Any]) -> None:
        entries = [{"id": id, "name": id, "sha256": self._made[id][2], **more} for id, more in rights.items()]
        self.path.write_text(json.dumps({"keys": entries}))

    def bearer(self, id: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self._made[id][0]}"}

    def __getitem__(self, id: str) -> str:
        return self._made[id][0]


class House(Running):
    """A gateway with keys, and its two experts."""

    keys: Keys

    async def ask(self, id: str, name: str = "auto", path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
        """A question with the key of that id."""
        return await self.client.post(path, json=chat(name, **more), headers=self.keys.bearer(id))

    async def get(self, id: str, path: str) -> httpx.Response:
        return await self.client.get(path, headers=self.keys.bearer(id))

    def asked(self, name: str) -> int:
        """How many questions an expert got."""
        return sum(record.method == "POST" for record in self.fakes[name].records)


@asynccontextmanager
async def house(keys: Keys, *routes: dict[str, Any], small: Sequence[str] = (), **config: Any) -> AsyncIterator[House]:
    """Two experts behind a policy that wants the large one. `small`: faults of the other; `config`: further sections."""
    async with fake("small", *small) as cheap, fake("large") as dear:
        whole = {
            "models": [model("small", cheap.url, api_key="sk-hidden-1"), model("large", dear.url)],
            "routes": list(routes) or [wanting()],
            "auth": {"keys": str(keys.path)},
            "retries": {"max_attempts": 2},
            **config,
        }
        async with serving(whole, PLUGINS) as running:
            fakes: dict[str, FakeServer] = {"small": cheap, "large": dear}
            found = House(running.url, running.gateway, running.client, running.log, fakes)
            found.keys = keys
            yield found


def wanting(**more: Any) -> dict[str, Any]:
    """The route `auto`, by default to the large model, with more in its policy."""
    return {**route("small", "large", **{"scorers": [{"type": "dear"}], **more}), "default": "large"}


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


# Who is let in.

BAD: dict[str, bytes | None] = {
    "missing": None,
    "empty": b"",
    "scheme alone": b"Bearer",
    "no scheme": b"ANN",
    "basic": b"Basic ANN",
    "scheme twice": b"Bearer Bearer ANN",
    "unknown": b"Bearer " + new_key()[0].encode(),
    "one more letter": b"Bearer ANNx",
    "with more behind": b"Bearer ANN more",
    "expired": b"Bearer OLD",
    "UTF-8": "Bearer pm_schlüssel".encode(),
    "Latin-1": b"Bearer pm_\xfc\xff",
    "8 KB": b"Bearer " + b"a" * 8192,
    "20 KB": b"Bearer " + b"a" * 20_000,
    "like a token": b"Bearer a.b.c",
}
"""ANN stands for a good key, OLD for one that has expired."""


async def test_whatever_is_wrong_with_a_key_every_endpoint_says_the_same(tmp_path: Path) -> None:
    keys = Keys(tmp_path, ann={}, old={"expires": PAST})
    bodies = set()
    async with house(keys) as running:
        for name, given in BAD.items():
            filled = (given or b"").replace(b"ANN", keys["ann"].encode()).replace(b"OLD", keys["old"].encode())
            headers = [] if given is None else [(b"authorization", filled)]
            for method, path in CALLS:
                response = await running.client.request(method, path, json=chat() if method == "POST" else None, headers=headers)
                assert response.status_code == 401, (name, path)
                assert path not in PROXIES or response.headers["www-authenticate"] == "Bearer"
                assert not [header for header in response.headers if header.startswith("x-router-")]
                bodies.add(response.content)
        assert len(bodies) == 1
        assert json.loads(bodies.pop())["error"]["code"] == "invalid_api_key"
        assert running.asked("small") + running.asked("large") == 0


@pytest.mark.parametrize(("method", "path"), CALLS, ids=[path for _, path in CALLS])
async def test_without_a_key_no_body_is_looked_at_and_with_one_none_beyond_the_bound(method: str, path: str, tmp_path: Path) -> None:
    keys = Keys(tmp_path, ann={})
    async with house(keys, server={"max_body_bytes": 100_000}) as running:
        for body in (b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"decision_id": 1}', b"x" * 20_000_000):
            response = await running.client.request(method, path, content=body, headers={"content-type": "application/json"})
            assert code(response) == (401, "invalid_api_key"), body[:20]
        if method == "POST":
            large = json.dumps({**chat(), "decision_id": "dec-1", "score": 1, "comment": "x" * 200_000})
            assert code(await running.client.post(path, content=large, headers=keys.bearer("ann"))) == (413, "body_too_large")


async def test_a_key_in_the_address_or_elsewhere_is_none(tmp_path: Path) -> None:
    keys = Keys(tmp_path, ann={})
    key = keys["ann"]
    async with house(keys) as running:
        for method, path in CALLS:
            for name in ("key", "api_key", "token", "access_token", "authorization"):
                response = await running.client.request(method, path, params={name: key}, json=chat() if method == "POST" else None)
                assert code(response) == (401, "invalid_api_key"), (path, name)
        for headers in (
            {"x-api-key": key},
            {"api-key": key},
            {"cookie": f"authorization=Bearer {key}"},
            {"proxy-authorization": f"Bearer {key}"},
        ):
            assert (await running.client.get("/v1/models", headers=headers)).status_code == 401
        assert (await running.client.get("/v1/models", headers={"authorization": f"bEARER  {key}"})).status_code == 200


async def test_a_key_of_a_megabyte_breaks_nothing(tmp_path: Path) -> None:
    keys = Keys(tmp_path, ann={})
    async with house(keys) as running:
        for line in (b"POST /v1/chat/completions", b"GET /v1/models"):
            answer = await running.raw(line + b" HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + b"a" * 1_000_000 + b"\r\n\r\n")
            assert not answer or answer.split(b" ")[1] in (b"400", b"401", b"431")
        assert (await running.ask("ann")).status_code == 200


async def test_health_and_metrics_need_no_key(tmp_path: Path) -> None:
    async with house(Keys(tmp_path, ann={})) as running:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await running.client.get(path)).status_code == 200


async def test_a_key_is_revoked_with_its_entry_and_another_comes_without_a_restart(tmp_path: Path) -> None:
    keys = Keys(tmp_path, ann={}, bob={}, eve={"expires": PAST})
    async with house(keys) as running:

        async def status(id: str, expected: int) -> bool:
            return all([(await running.ask(id)).status_code == expected, (await running.get(id, "/v1/models")).status_code == expected])

        assert await status("ann", 200)
        assert await status("eve", 401)
        keys.write(bob={}, eve={})
        assert await until(lambda: status("ann", 401), 3)
        assert await status("bob", 200)
        assert await status("eve", 200)


async def test_a_token_of_the_issuer_lets_in_and_a_tampered_one_does_not(tmp_path: Path) -> None:
    async with issuing(jwk(RSA, "r1")) as issuer:
        keys = Keys(tmp_path, ann={})
        auth = {"keys": str(keys.path), "jwt": {"jwks_url": issuer.url, "issuer": ISSUER, "audience": AUDIENCE}}
        async with house(keys, auth=auth) as running:
            soon = time.time() + 600
            good, claim = token(exp=soon), {"models": ["small"], "role": "user"}

            async def ask(text: str, name: str = "auto") -> httpx.Response:
                return await running.client.post("/v1/chat/completions", json=chat(name), headers={"authorization": f"Bearer {text}"})

            assert (await ask(good)).headers["x-router-model"] == "large"
            head, body, signature = good.split(".")
            other = token(exp=soon, sub="bob").split(".")[1]
            swapped = "A" if signature[10] != "A" else "B"
            for bad in (
                f"{head}.{other}.{signature}",
                f"{head}.{body}.{signature[:10]}{swapped}{signature[11:]}",
                f"{head}.{body}.",
                token(RSA_NEXT, exp=soon),
                token(exp=soon - 1200),
                token(exp=soon, aud="else"),
            ):
                assert code(await ask(bad)) == (401, "invalid_api_key")
            assert (await ask(token(exp=soon, pointsman=claim))).headers["x-router-model"] == "small"
            assert code(await ask(token(exp=soon, pointsman=claim), "large")) == (403, "model_not_allowed")
            assert (await running.ask("ann")).status_code == 200


# What a key may reach.

POLICIES: dict[str, dict[str, Any]] = {
    "wants large": {},
    "filters of its own": {"filters": [{"type": "health"}]},
    "no filters": {"filters": []},
    "its scorer breaks": {"scorers": [{"type": "dear", "broken": True}]},
    "picks by chance": {"picker": {"type": "weighted"}},
    "its planner insists": {"planner": {"type": "stubborn"}},
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
async def test_only_an_allowed_model_answers_whatever_the_policy_likes(policy: dict[str, Any], tmp_path: Path) -> None:
    keys = Keys(tmp_path, boss={}, limited={"models": ["small"]})
    async with house(keys, wanting(**policy)) as running:
        for number in range(3):
            for more in ({}, {"stream": True}, {"router": {"session": "shared"}}, {"router": {"exclude": ["small"]}}):
                body = {"content": f"question {number}", **more}
                await running.ask("boss", **body)  # fills the cache and the sessions with the large model
                before = running.asked("large")
                response = await running.ask("limited", **body)
                assert running.asked("large") == before
                if "exclude" in str(more):
                    assert 400 <= response.status_code < 500
                else:
                    assert (response.status_code, response.headers["x-router-model"]) == (200, "small")
        response = await running.ask("limited", path="/v1/route")
        assert [candidate["model"] for candidate in response.json()["candidates"]] == ["small"]


async def test_a_planner_that_asks_for_nothing_allowed_gets_nothing(tmp_path: Path) -> None:
    keys = Keys(tmp_path, limited={"models": ["small"]})
    async with house(keys, wanting(planner={"type": "stubborn", "alone": True})) as running:
        assert code(await running.ask("limited")) == (503, "no_healthy_backend")
        assert running.asked("large") == 0


async def test_nobody_else_steps_in_when_the_allowed_model_is_down(tmp_path: Path) -> None:
    keys = Keys(tmp_path, limited={"models": ["small"]})
    async with house(keys, small=["unhealthy"], health={"interval_seconds": 0.1}) as running:
        small = running.gateway.fleet["small"].pool
        assert await until(lambda: not small.usable(), 5)
        for more in ({}, {"stream": True}):
            response = await running.ask("limited", **more)
            assert code(response) == (503, "no_healthy_backend")
            assert response.headers["retry-after"]
        assert code(await running.ask("limited", "small")) == (503, "no_healthy_backend")
        assert running.asked("large") == 0


@pytest.mark.parametrize("fault", ["status:500", "status:429", "reset_before_headers", "html"])
async def test_nobody_else_steps_in_when_the_allowed_model_fails(fault: str, tmp_path: Path) -> None:
    keys = Keys(tmp_path, limited={"models": ["small"]})
    async with house(keys, small=[fault]) as running:
        assert (await running.ask("limited")).status_code in (429, 502, 503)
        await running.fakes["small"].stop()
        assert (await running.ask("limited", stream=True)).status_code in (502, 503)
        assert running.asked("large") == 0


async def test_a_key_that_loses_a_model_loses_it_in_its_conversations_too(tmp_path: Path) -> None:
    keys = Keys(tmp_path, ann={})
    async with house(keys) as running:
        talk = {"router": {"session": "talk-1"}}
        assert (await running.ask("ann", **talk)).headers["x-router-model"] == "large"
        keys.write(ann={"models": ["small"]})

        async def limited() -> bool:
            return (await running.ask("ann", "large")).status_code == 403

        assert await until(limited, 3)
        before = running.asked("large")
        assert (await running.ask("ann", **talk)).headers["x-router-model"] == "small"
        assert running.asked("large") == before


async def test_what_a_key_may_not_name_is_refused_and_not_listed(tmp_path: Path) -> None:
    keys = Keys(tmp_path, limited={"models": ["small"]}, routed={"routes": ["auto"]}, boss={})
    routes = [wanting(), {**wanting(), "name": "other"}, route("large", name="dear")]
    async with house(keys, *routes) as running:
        for path in ("/v1/chat/completions", "/v1/route"):
            for id, name in (("limited", "large"), ("limited", "dear"), ("routed", "other"), ("routed", "dear")):
                assert code(await running.ask(id, name, path)) == (403, "model_not_allowed")
        for wish in ({"models": ["large"]}, {"exclude": ["small"]}):
            assert 400 <= (await running.ask("limited", router=wish)).status_code < 500
        headers = {**keys.bearer("limited"), "x-router-models": "large"}
        assert 400 <= (await running.client.post("/v1/chat/completions", json=chat(), headers=headers)).status_code < 500
        assert running.asked("large") == running.asked("small") == 0

        listed = {id: (await running.get(id, "/v1/models")).json()["data"] for id in ("limited", "routed", "boss")}
        names = {id: {entry["id"] for entry in found} for id, found in listed.items()}
        assert names == {
            "limited": {"auto", "other", "small"},
            "routed": {"auto", "small", "large"},
            "boss": {"auto", "other", "dear", "small", "large"},
        }
        assert [entry["candidates"] for entry in listed["limited"] if "candidates" in entry] == [["small"], ["small"]]
        for id, name in (("limited", "large"), ("limited", "dear"), ("routed", "other")):
            assert code(await running.get(id, f"/v1/models/{name}")) == (404, "model_not_found")


async def test_a_decision_is_shown_to_its_own_caller_alone(tmp_path: Path) -> None:
    keys = Keys(tmp_path, ann={}, bob={}, root={"role": "admin"})
    async with house(keys) as running:
        for response in (await running.ask("ann"), await running.ask("ann", stream=True), await running.ask("ann", path="/v1/route")):
            decision = response.headers.get("x-router-decision-id") or response.json()["id"]
            for id in ("bob", "root"):
                told = await running.get(id, f"/v1/decisions/{decision}")
                unknown = await running.get(id, "/v1/decisions/dec-none")
                assert code(told) == (404, "decision_not_found")
                assert told.content == unknown.content
                body = {"decision_id": decision, "score": 0.5}
                given = await running.client.post("/v1/feedback", json=body, headers=keys.bearer(id))
                assert code(given) == (404, "decision_not_found")
            assert (await running.get("ann", f"/v1/decisions/{decision}")).json()["caller"] == "ann"
            given = await running.client.post("/v1/feedback", json={"decision_id": decision, "score": 1}, headers=keys.bearer("ann"))
            assert given.status_code == 200


async def test_operators_need_an_admin_key_and_see_no_secret(tmp_path: Path) -> None:
    keys = Keys(tmp_path, ann={}, root={"role": "admin"})
    async with house(keys, redis={"url": "redis://user:hidden-2@127.0.0.1:1/0"}) as running:
        for path in ("/admin/config", "/admin/backends"):
            assert code(await running.get("ann", path)) == (403, "forbidden")
            shown = await running.get("root", path)
            assert shown.status_code == 200
            assert "hidden" not in shown.text
        config = (await running.get("root", "/admin/config")).json()["config"]
        assert set(config["models"][0]["api_key"]) == set(config["redis"]["url"]) == {"*"}
        assert config["models"][1]["api_key"] is None
        assert "hidden" not in running.log.getvalue()
