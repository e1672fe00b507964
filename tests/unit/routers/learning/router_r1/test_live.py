"""Live experts, on real sockets: an episode in which they are asked, and pay is what their usage costs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import yaml

from gateway.cli.router_r1 import live
from routers.learning.router_r1.episodes import Asked, Episode, play
from tests.gateways import fake, model
from tests.unit.routers.learning.router_r1.toys import QUESTION, Told, stage

NAMES = ("large", "small")


def episode(config: Path) -> Episode:
    with live(config, NAMES) as (models, experts):
        of = replace(stage(), models=models)
        scripts = ["<search>small: What is 2 + 3?</search>", "<search>large: What is 20 + 3?</search>", "<answer>B</answer>"]
        first = play(of, [QUESTION], Told([scripts]), experts)[0]
        # The connections and the loop outlive an answer: the next step's episodes ask again.
        asked = [Asked(QUESTION, "small", f"What is {number} + 1?", 16) for number in range(6)]
        assert len({told.text for told in experts.answer(asked)}) == 6
        return first


async def test_experts_of_a_configuration_are_asked(tmp_path: Path) -> None:
    async with fake("small") as small, fake("large", "status:400") as large:
        models = [model("small", small.url, description="the small one"), model("large", large.url)]
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump({"models": models}))
        found = await asyncio.to_thread(episode, tmp_path / "gateway.yaml")
        body = json.loads(next(record.body for record in small.records if record.path == "/v1/chat/completions"))
    assert (body["messages"], body["max_tokens"]) == ([{"role": "user", "content": "What is 2 + 3?"}], 1024)
    told, failed = (turn for turn in found.turns if turn.model in NAMES)
    assert "5" in (told.text or "")
    assert told.cost_usd is not None
    assert found.cost_usd == told.cost_usd > 0
    assert failed.text is None
    assert "status 400" in (failed.error or "")
    assert (found.answer, found.asks) == ("B", 2)
