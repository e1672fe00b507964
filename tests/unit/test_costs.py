"""What calls cost, whatever a backend says of them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.account.costs import MOST_TOKENS, CompletionDetails, PromptDetails, Usage, cost_usd, dearest
from gateway.flow.answers import usage_of
from gateway.flow.relay import StreamFilter
from gateway.sections.models import PriceSection
from routers.api import Candidate, Model, Price, RouteRequest
from routers.expectation import expected_cost, possible_cost, possible_tokens

USD = st.floats(0, 1000)
PRICES = st.builds(Price, USD, USD, st.none() | USD, st.none() | USD, st.floats(0, 1))
COUNTS = st.integers(0, 200_000)
LIES = st.none() | st.integers(-(2**70), 2**70) | COUNTS


def usage(prompt: int | None, completion: int | None = None, cached: int | None = None, reasoning: int | None = None) -> Usage:
    return Usage(prompt, completion, PromptDetails(cached), CompletionDetails(reasoning))


def close_to(left: float, right: float) -> bool:
    return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-15)


@st.composite
def usage_objects(draw: st.DrawFn) -> dict[str, Any]:
    """A `usage` member as some backend may send it: any order, null or missing details, members that we do not know."""
    members: dict[str, Any] = {
        "prompt_tokens": draw(LIES),
        "completion_tokens": draw(LIES),
        "total_tokens": draw(COUNTS),
        "prompt_tokens_details": draw(st.none() | st.fixed_dictionaries({}, optional={"cached_tokens": LIES, "audio_tokens": LIES})),
        "completion_tokens_details": draw(st.none() | st.fixed_dictionaries({}, optional={"reasoning_tokens": LIES})),
    }
    names = draw(st.permutations(sorted(members)))
    left_out = draw(st.sets(st.sampled_from(sorted(members))))
    return {name: members[name] for name in names if name not in left_out}


def both_ways(
    found: dict[str, Any], separators: tuple[str, str], usage_first: bool, extra_choice: bool
) -> tuple[Usage | None, Usage | None]:
    """The usage as read from a whole answer, and from a stream's last chunk."""
    whole: dict[str, Any] = {
        "id": "c-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": '"usage":{"prompt_tokens":1}'}}],
    }
    whole = {"usage": found, **whole} if usage_first else {**whole, "usage": found}
    choices = [{"index": 0, "delta": {}, "finish_reason": "stop"}] if extra_choice else []
    chunk = {"usage": found, "choices": choices} if usage_first else {"choices": choices, "usage": found}
    stream = StreamFilter(keep_usage=False)
    stream.pass_on(b'data: {"choices":[{"index":0,"delta":{"content":"\\"usage\\":{}"}}],"usage":null}\n\n')
    stream.pass_on(b"data: " + json.dumps(chunk, separators=separators).encode() + b"\n\ndata: [DONE]\n\n")
    return usage_of(json.dumps(whole, separators=separators).encode()), stream.usage


@given(usage_objects(), st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]), st.booleans(), st.booleans(), PRICES)
def test_a_stream_costs_what_the_whole_answer_costs(
    found: dict[str, Any], separators: tuple[str, str], usage_first: bool, extra_choice: bool, price: Price
) -> None:
    whole, streamed = both_ways(found, separators, usage_first, extra_choice)
    assert whole is not None
    assert whole == streamed
    cost = cost_usd(price, whole)
    assert cost == cost_usd(price, streamed)
    prompt = found.get("prompt_tokens")
    if prompt is None or not 0 <= prompt <= MOST_TOKENS:
        assert cost is None
    else:
        assert cost is not None
        assert math.isfinite(cost)
        assert cost >= 0


@given(PRICES, LIES, LIES, LIES, LIES)
def test_no_lie_makes_a_cost_negative(
    price: Price, prompt: int | None, completion: int | None, cached: int | None, reasoning: int | None
) -> None:
    said = usage(prompt, completion, cached, reasoning)
    for count in (said.prompt_tokens, said.completion_tokens, said.cached_tokens, said.reasoning_tokens):
        assert count is None or 0 <= count <= MOST_TOKENS
    cost = cost_usd(price, said)
    assert cost is None or (cost >= price.request >= 0 and math.isfinite(cost))


@given(PRICES, COUNTS, COUNTS, st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000))
def test_each_token_is_charged_once(price: Price, prompt: int, completion: int, hit: float, thinking: float, more: int) -> None:
    cached, reasoning = int(prompt * hit), int(completion * thinking)
    cost = cost_usd(price, usage(prompt, completion, cached, reasoning))
    assert cost is not None
    cached_input = price.input if price.cached_input is None else price.cached_input
    thought = price.output if price.reasoning is None else price.reasoning
    parts = [(prompt - cached) * price.input, cached * cached_input, (completion - reasoning) * price.output, reasoning * thought]
    assert close_to(cost, math.fsum(parts) / 1e6 + price.request)
    for longer, charge in (
        (usage(prompt + more, completion, cached, reasoning), price.input),
        (usage(prompt + more, completion, cached + more, reasoning), cached_input),
        (usage(prompt, completion + more, cached, reasoning), price.output),
        (usage(prompt, completion + more, cached, reasoning + more), thought),
    ):
        dearer = cost_usd(price, longer)
        assert dearer is not None
        assert dearer >= cost or close_to(dearer, cost)
        assert close_to(dearer, cost + more * charge / 1e6)


@given(
    PRICES,
    st.builds(
        RouteRequest,
        endpoint=st.sampled_from(["chat", "completions", "embeddings"]),
        prompt_tokens=COUNTS,
        max_tokens=st.none() | st.integers(0, 100_000),
        n=st.integers(1, 8),
    ),
    st.none() | st.integers(1, 400_000),
    st.tuples(*[st.floats(0, 1)] * 4),
)
def test_a_call_within_its_bounds_never_costs_more_than_was_reserved(
    price: Price, request: RouteRequest, window: int | None, shares: tuple[float, float, float, float]
) -> None:
    candidate = Candidate(Model("m", price, window))
    tokens, bound = possible_tokens(request, candidate), possible_cost(request, candidate)
    assert bound is not None
    prompt, completion = int(request.prompt_tokens * shares[0]), int((tokens - request.prompt_tokens) * shares[1])
    cost = cost_usd(price, usage(prompt, completion, int(prompt * shares[2]), int(completion * shares[3])))
    assert cost is not None
    assert cost <= bound or close_to(cost, bound)
    expected = expected_cost(request, candidate)
    assert expected is not None
    assert expected >= price.request


def test_what_a_request_may_cost() -> None:
    price = Price(1.0, 2.0, cached_input=0.1, reasoning=3.0, request=0.5)
    narrow, wide = Candidate(Model("m", price, 1000)), Candidate(Model("m", price))
    assert possible_tokens(RouteRequest(prompt_tokens=900), narrow) == 1000
    assert possible_tokens(RouteRequest(prompt_tokens=2000), narrow) == 2001  # at least one token of answer
    assert possible_tokens(RouteRequest(prompt_tokens=900, n=2), wide) == 900 + 2 * 4096
    assert possible_tokens(RouteRequest(prompt_tokens=900, max_tokens=0), wide, unbounded=10) == 910
    assert possible_tokens(RouteRequest("embeddings", prompt_tokens=900, max_tokens=50), wide) == 900
    assert possible_cost(RouteRequest(prompt_tokens=1000, max_tokens=100, n=2), wide) == (1000 * 1.0 + 200 * 3.0) / 1e6 + 0.5
    assert possible_cost(RouteRequest(prompt_tokens=1000), Candidate(Model("m"))) is None
    assert expected_cost(RouteRequest(prompt_tokens=1000, max_tokens=100), wide) == (1000 * 1.0 + 100 * 2.0) / 1e6 + 0.5


def test_the_unknown_is_none_and_never_free() -> None:
    price = Price(1.0, 2.0, request=0.25)
    assert cost_usd(None, usage(10, 5)) is None
    assert cost_usd(price, None) is None
    assert cost_usd(price, usage(None, 5)) is None
    assert cost_usd(price, usage(-1, 5)) is None
    assert cost_usd(price, usage(MOST_TOKENS + 1, 5)) is None
    assert cost_usd(price, usage(0)) == 0.25
    assert usage(10, 5).cached_tokens is None
    assert usage(10, 5, cached=-1, reasoning=-1).reasoning_tokens is None
    assert (usage(10, 5, cached=11).cached_tokens, usage(10, 5, reasoning=6).reasoning_tokens) == (10, 5)


@pytest.mark.parametrize("key", ["input", "output", "cached_input", "reasoning", "request"])
@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_a_price_is_a_number_from_zero_up(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        PriceSection.model_validate({"input": 1, "output": 2, key: value})
    assert Price(**PriceSection(input=1, output=2).model_dump()) == Price(1, 2)


RATE = st.sampled_from([0.0, 0.1, 0.5, 2.0])
ROUND_PRICES = st.builds(Price, RATE, RATE, st.none() | RATE, st.none() | RATE, RATE)


@given(
    prices=st.lists(st.none() | ROUND_PRICES, max_size=8),
    prompt=st.integers(0, 5000),
    completion=st.integers(0, 5000),
    cached=st.integers(0, 6000),
    reasoning=st.integers(0, 6000),
)
def test_no_price_costs_more_than_the_dearest_ones(
    prices: list[Price | None], prompt: int, completion: int, cached: int, reasoning: int
) -> None:
    usage = Usage(prompt, completion, PromptDetails(cached), CompletionDetails(reasoning))
    costs = [cost for price in prices if (cost := cost_usd(price, usage)) is not None]
    few = dearest(prices)
    assert set(few) <= set(prices)
    assert max((cost_usd(price, usage) or 0.0 for price in few), default=None) == (pytest.approx(max(costs)) if costs else None)


def test_of_two_prices_that_go_together_one_is_dearest() -> None:
    assert dearest([Price(1, 2), None, Price(2, 4), Price(2, 4), Price(0.5, 4)]) == (Price(2, 4),)
    assert dearest([Price(1, 5), Price(5, 1)]) == (Price(1, 5), Price(5, 1))
