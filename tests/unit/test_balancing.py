"""The section `balancing`: what is refused and where, what is built, and what a gateway does with it on sockets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random

import pytest

from backends.chooser import Chooser
from gateway.config import Config, validate
from gateway.sections.balancing import BalancingSection, build_chooser
from gateway.source import ConfigError, parse
from tests.gateways import chat, fake, model, serving, until

HEAD = "models: [{name: small, backends: [http://a:8000/v1], balancing: {scorers: [{type: in_flight}]}}]\n"


def read(balancing: str) -> Config:
    return validate(parse(HEAD + balancing, "gateway.yaml", {}))


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("balancing: {scorers: [{type: prefx}]}", "balancing.scorers[0].type", "did you mean 'prefix'?"),
        ("balancing: {scorers: [{weight: 2}]}", "balancing.scorers[0].type", "is required"),
        ("balancing: {scorers: [{type: prefix, wieght: 2}]}", "balancing.scorers[0].wieght", "did you mean 'weight'?"),
        ("balancing: {scorers: [{type: in_flight, blocks: 7}]}", "balancing.scorers[0].blocks", "known here: type, weight, half"),
        ("balancing: {scorers: [{type: prefix, block_bytes: 1}]}", "balancing.scorers[0].block_bytes", "greater than or equal to 64"),
        ("balancing: {scorers: [{type: session, overload: 1}]}", "balancing.scorers[0].overload", "greater than 1"),
        ("balancing: {scorers: [{type: tokens, half: 0}]}", "balancing.scorers[0].half", "greater than 0"),
        ("balancing: {scorers: [{type: load, weight: -1}]}", "balancing.scorers[0].weight", "greater than or equal to 0"),
        ("balancing: {scorers: [{type: load}, {type: load}]}", "balancing.scorers[1].type", "'load' is named twice"),
        ("balancing: {scorers: [{type: load, weight: 0}]}", "balancing.scorers", "no weight is above 0"),
        ("balancing: {scorers: []}", "balancing.scorers", "at least 1"),
        ("balancing: {scrape_seconds: 10}", "balancing.stale_seconds", "scrape_seconds is 10"),
        ("balancing: {scrapeseconds: 1}", "balancing.scrapeseconds", "did you mean 'scrape_seconds'?"),
    ],
)
def test_impossible_settings_are_refused_with_their_place(text: str, path: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(text)
    (problem,) = refused.value.problems
    assert problem.path == path
    assert message in problem.message
    assert problem.line == 2


def test_a_model_may_have_scorers_of_its_own() -> None:
    config = read("balancing: {scorers: [{type: tokens, long: 4000}, {type: session, weight: 0.5}]}")
    assert [scorer.type for scorer in config.balancing.scorers] == ["tokens", "session"]
    (one,) = config.models
    assert one.balancing is not None
    assert [scorer.type for scorer in one.balancing.scorers] == ["in_flight"]
    with pytest.raises(ConfigError) as refused:
        validate(parse(HEAD.replace("{type: in_flight}", "{type: load}, {type: load}"), "gateway.yaml", {}))
    assert [problem.path for problem in refused.value.problems] == ["models[0].balancing.scorers[1].type"]


@pytest.mark.parametrize("kinds", [["in_flight"], ["prefix", "load", "in_flight", "session", "adapter", "tokens", "round_robin"]])
def test_a_chooser_is_built(kinds: Sequence[str]) -> None:
    section = BalancingSection.model_validate({"scorers": [{"type": kind} for kind in kinds]})
    chooser = build_chooser(section.scorers, Random(0), time.monotonic)
    assert isinstance(chooser, Chooser)
    assert chooser.remembered == 0


async def test_a_conversation_goes_on_where_its_beginning_is_cached() -> None:
    async with fake("small") as one, fake("small") as two, fake("small") as three:
        whole = {"models": [model("small", one.url, two.url, three.url)]}
        async with serving(whole) as running:
            for talk in range(4):
                messages = [{"role": "system", "content": f"{talk} " * 2000}]
                for turn in range(5):
                    messages.append({"role": "user", "content": f"{turn} " * 500})
                    answer = await running.post(**{**chat("small"), "messages": messages})
                    assert answer.status_code == 200
                    messages.append(answer.json()["choices"][0]["message"] | {"content": "yes"})
        hits = sum(expert.engine.prefix_hits for expert in (one, two, three))
        queries = sum(expert.engine.prefix_queries for expert in (one, two, three))
        seen = [[record.body[:60] for record in expert.records if record.method == "POST"] for expert in (one, two, three)]
    assert sum(map(len, seen)) == 20
    for bodies in seen:
        assert all(bodies.count(body) == 5 for body in bodies), "all turns of a conversation at one server"
    assert hits / queries > 0.6


async def test_the_load_of_servers_is_read_while_the_gateway_runs() -> None:
    async with fake("small") as one, fake("small") as two:
        whole = {"models": [model("small", one.url, two.url)], "balancing": {"scrape_seconds": 0.05, "stale_seconds": 0.5}}
        async with serving(whole) as running:
            loads = [backend.load for backend in running.gateway.fleet["small"].pool.backends]
            async with one.engine.place():
                assert await until(lambda: [load.running for load in loads] == [1, 0], 10)
            assert await until(lambda: loads[0].running == 0, 10)
            two.free.clear()
            assert await until(lambda: not loads[1].is_fresh(time.monotonic()), 10)
            assert loads[0].is_fresh(time.monotonic())
            two.free.set()
            assert await until(lambda: loads[1].is_fresh(time.monotonic()), 20)
