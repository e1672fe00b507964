"""The demo: three fake experts and the gateway in one process, with real sockets between them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import uvloop
from rich.console import Console
from rich.table import Table

from backends.fake import engine
from backends.fake.endpoints import create
from backends.fake.server import FakeServer
from backends.fake.shapes import Character
from gateway.app import Gateway, build
from gateway.config import Config, validate
from gateway.policies import build_routes
from gateway.reload import Switch
from gateway.server import Server, settings
from gateway.source import parse
from routers.registry import Registry


@dataclass(frozen=True, slots=True)
class Expert:
    """A fake model of the demo. Prices in USD per 1M tokens."""

    name: str
    skill: float
    latency: str
    price_in: float
    price_out: float
    description: str


EXPERTS = (
    Expert("small", 0.3, "small", 0.05, 0.10, "fast general model for short and simple questions"),
    Expert("medium", 0.6, "medium", 0.20, 0.60, "sums, tools and a bit of code"),
    Expert("large", 1.0, "large", 1.00, 3.00, "long and hard questions"),
)
DEAREST = "large"
POLICY = """
routes:
  - name: auto
    models: [small, medium, large]
    policy:
      scorers:
        - type: rules
          weight: 1.0
          rules:
            - {name: code, when: {code: true}, prefer: {small: 0.2, medium: 0.6, large: 1.0}}
            - {name: products, when: {pattern: '\\d\\s*[*×]\\s*\\d'}, prefer: {small: 0.1, medium: 0.5, large: 1.0}}
            - {name: rare capitals, when: {keywords: [Kazakhstan, Bhutan, Palau, Myanmar]}, prefer: {small: 0.0, medium: 0.2, large: 1.0}}
            - {name: tools or sums, when: {maths: true}, prefer: {small: 0.3, medium: 0.9, large: 0.9}}
            - {name: long, when: {min_prompt_tokens: 300}, prefer: {small: 0.2, medium: 0.8, large: 1.0}}
            - {name: the rest, prefer: {small: 0.8, medium: 0.8, large: 0.9}}
        - {type: cost, weight: 0.4}
    default: medium
"""
PROMPTS = (
    "What is the capital of France? Answer with one word.",
    "What is 17 + 25?",
    "What is 123 * 456?",
    "What is the capital of Bhutan?",
    "Say hello to my colleague.",
    "Write a python function that sorts a list of dictionaries by two keys.",
    "What is 12 * 12 + 7? Give just the number.",
    "Wie heißt die Hauptstadt von Italien? What is the capital of Italy?",
    "What is the capital of Kazakhstan?",
    "Summarise this text in two sentences: " + "The points stood open and the train came to rest. " * 30,
    "What is 2 + 2? Answer as JSON.",
    "Think of a name for a small railway station.",
)


def run(once: bool, host: str, port: int) -> int:
    """Returns the exit code."""
    try:
        return uvloop.run(_run(once, host, port))
    except KeyboardInterrupt:
        return 0


async def _run(once: bool, host: str, port: int) -> int:
    fakes = [create([Character(e.name, e.skill)], latency=engine.parse(e.latency)) for e in EXPERTS]
    urls = [await fake.start() for fake in fakes]
    config = _config(urls)
    gateway = build(config, build_routes(config, Registry()), None if once else sys.stdout, plain=True)
    switch = Switch(gateway)
    server = Server(settings(switch, host, port, lambda: gateway.config.server), gateway.life, lambda: gateway.config.server, switch.want)
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if serving.done():
                return 1
            await asyncio.sleep(0.02)
        base = f"http://{host}:{server.port}"
        if once:
            await _wait_until_healthy(gateway)
            return await send_all(base, PROMPTS, DEAREST)
        introduce(base, "three fake experts behind it: small, medium, large")
        await serving
    finally:
        server.stop()
        await serving
        await _stop(fakes)
    return 0


def _config(urls: Sequence[str]) -> Config:
    models = "".join(
        f"  - {{name: {e.name}, backends: ['{url}'], price: {{input: {e.price_in}, output: {e.price_out}}}, context_window: 32768, "
        f"capabilities: [chat, completions, embeddings, tools, json_schema], description: '{e.description}'}}\n"
        for e, url in zip(EXPERTS, urls, strict=True)
    )
    return validate(parse(f"server: {{drain_seconds: 1}}\nmodels:\n{models}{POLICY}", "demo", {}))


async def _wait_until_healthy(gateway: Gateway) -> None:
    for _ in range(200):
        if all(backend.health == "up" for served in gateway.fleet for backend in served.pool.backends):
            return
        await asyncio.sleep(0.02)


async def _stop(fakes: Sequence[FakeServer]) -> None:
    for fake in fakes:
        await fake.stop()


def introduce(base: str, experts: str) -> None:
    """Prints requests that are ready to paste. `base`: the gateway's address; `experts`: what stands behind it, in words."""
    print(
        f"""
Pointsman listens at {base}, with {experts}.
Paste into another terminal:

  curl {base}/v1/chat/completions -H 'content-type: application/json' -d '
    {{"model": "auto", "messages": [{{"role": "user", "content": "What is 123 * 456?"}}]}}' -i

  # streamed, and with the decision explained in the first event
  curl -N {base}/v1/chat/completions -H 'content-type: application/json' -d '
    {{"model": "auto", "stream": true, "router": {{"explain": true}},
     "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'

  # the decision alone
  curl {base}/v1/route -H 'content-type: application/json' -d '
    {{"model": "auto", "messages": [{{"role": "user", "content": "Write a python function."}}]}}'

  # OpenAI's SDK
  python -c 'from openai import OpenAI; client = OpenAI(base_url="{base}/v1", api_key="none")
answer = client.chat.completions.create(model="auto", messages=[{{"role": "user", "content": "What is 17 + 25?"}}])
print(answer.model, answer.choices[0].message.content)'

Every decision as it happens, in a browser: {base}/console
One of them: {base}/v1/decisions/ID (ID from the header x-router-decision-id); metrics: {base}/metrics
One line for each request follows; Ctrl-C ends everything.
""",
        flush=True,
    )


async def send_all(base: str, prompts: Sequence[str], dearest: str) -> int:
    """Sends the prompts to the route `auto`, prints what became of them. Returns 0 if all were answered."""
    table = Table("prompt", "model", "why", "answer", "cost, USD", f"always {dearest}, USD")
    total, baseline = 0.0, 0.0
    async with httpx.AsyncClient(base_url=base, timeout=120) as client:
        for prompt in prompts:
            document, decision = await _ask(client, prompt)
            if decision is None:
                Console().print(document)
                return 1
            total += decision["cost_usd"] or 0.0
            baseline += decision["baseline_cost_usd"] or 0.0
            scores = ", ".join(f"{c['model']} {c['score']:.2f}" for c in decision["candidates"])
            answer = document["choices"][0]["message"]["content"]
            costs = (f"{decision['cost_usd']:.7f}", f"{decision['baseline_cost_usd']:.7f}")
            table.add_row(_short(prompt, 44), decision["answered_by"], scores, _short(answer, 28), *costs)
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table)
    console.print(f"{len(prompts)} requests cost ${total:.7f}; always {dearest}: ${baseline:.7f} ({1 - total / baseline:.0%} saved)")
    return 0


async def _ask(client: httpx.AsyncClient, prompt: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    response = await client.post("/v1/chat/completions", json={"model": "auto", "messages": [{"role": "user", "content": prompt}]})
    document: dict[str, Any] = response.json()
    if response.status_code != 200:
        return document, None
    decision = await client.get(f"/v1/decisions/{response.headers['x-router-decision-id']}")
    return document, decision.json()


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
