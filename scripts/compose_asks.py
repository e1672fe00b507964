"""What is asked of the services of deploy/compose.yaml when they run: through the balancer, as a client would."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

KEY = "pm_trial-user-key"
ADMIN_KEY = "pm_trial-admin-key"
REQUESTS = 12
SCRAPE_SECONDS = 60
QUESTIONS = ("What is {} * 456?", "What is {} + 17?", "Say hello to guest {}.")
CHAT = "/v1/chat/completions"


class Failed(Exception):
    """Something that did not hold."""


def need(holds: object, what: str) -> None:
    if not holds:
        raise Failed(what)


def headers(key: str = KEY) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def chat(number: int, stream: bool = False) -> dict[str, Any]:
    messages = [{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)].format(number)}]
    return {"model": "auto", "messages": messages, "stream": stream}


def ask_everything(gateway: str, prometheus: str) -> None:
    """Plain and streamed requests, decisions that both gateways know, and Prometheus's count of them. Base URLs. Raises Failed."""
    with httpx.Client(base_url=gateway, timeout=60) as client:
        need(client.post(CHAT, json=chat(0)).status_code == 401, "a request without a key should be refused")
        answered = [plain(client, number) for number in range(REQUESTS)]
        streamed(client)
        backends = client.get("/admin/backends", headers=headers(ADMIN_KEY))
        need(backends.status_code == 200, f"/admin/backends with the admin's key: {backends.status_code}")
    # Each asks by a connection of its own, so by either gateway.
    for _ in range(4):
        found = httpx.get(f"{gateway}/v1/decisions/{answered[0]}", headers=headers(), timeout=60)
        need(found.status_code == 200, f"a decision that both gateways should know: {found.status_code}")
    counted(prometheus, 'count(up{job="pointsman"} == 1)', 2)
    counted(prometheus, 'sum(pointsman_requests_total{route="auto",code="200"})', REQUESTS + 1)
    counted(prometheus, 'sum(pointsman_tokens_total{kind="completion"}) > bool 0', 1)


def plain(client: httpx.Client, number: int) -> str:
    """A whole answer; the id of its decision."""
    response = client.post(CHAT, json=chat(number), headers=headers())
    need(response.status_code == 200, f"a plain request: {response.status_code} {response.text[:300]}")
    need(response.json()["choices"][0]["message"]["content"], "a plain answer should have a text")
    print(f"  plain: {response.headers['x-router-model']} ({response.headers['x-router-reason']})", flush=True)
    return response.headers["x-router-decision-id"]


def streamed(client: httpx.Client) -> None:
    with client.stream("POST", CHAT, json=chat(REQUESTS, stream=True), headers=headers()) as response:
        events = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    need(response.status_code == 200 and events[-1] == "[DONE]", f"a stream: {response.status_code}, ends with {events[-1:]}")
    text = "".join(choice["delta"].get("content") or "" for event in events[:-1] for choice in json.loads(event)["choices"])
    need(text, "a stream should have a text")
    print(f"  streamed: {response.headers['x-router-model']}, {len(events)} events", flush=True)


def counted(prometheus: str, expression: str, value: float) -> None:
    """Waits until Prometheus says this of what it has scraped."""
    end = time.monotonic() + SCRAPE_SECONDS
    while True:
        answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": expression}, timeout=30).json()
        found = [float(series["value"][1]) for series in answer.get("data", {}).get("result", [])]
        if found == [value]:
            print(f"  Prometheus: {expression} = {value:g}", flush=True)
            return
        need(time.monotonic() < end, f"Prometheus: {expression} is {found} after {SCRAPE_SECONDS} s; it should be {value:g}: {answer}")
        time.sleep(0.5)


def end_one_gateway(gateway: str, end: Callable[[], int]) -> None:
    """Ends one of the gateways while clients ask through the balancer; none of them may notice. Raises Failed."""
    codes: list[int] = []
    done = threading.Event()

    def client() -> None:
        while not done.is_set():
            try:
                codes.append(httpx.post(f"{gateway}{CHAT}", json=chat(len(codes)), headers=headers(), timeout=60).status_code)
            except httpx.HTTPError:
                codes.append(0)

    clients = [threading.Thread(target=client) for _ in range(2)]
    for thread in clients:
        thread.start()
    code = end()
    before = len(codes)
    while len(codes) < before + 4 and all(status == 200 for status in codes):
        time.sleep(0.1)
    done.set()
    for thread in clients:
        thread.join()
    need(code == 0, f"the gateway should end with 0, not {code}")
    need(set(codes) == {200}, f"while a gateway ended, requests got {codes}")
    print(f"  one gateway ended; {len(codes)} requests meanwhile, all answered", flush=True)
