"""Settings of containment that cannot hold together are refused, with their place in the file."""

from __future__ import annotations

import pytest

from gateway.config import Config, validate
from gateway.source import ConfigError, parse

MODELS = """models:
  - name: small
    backends: [http://vllm-0:8000/v1]
  - name: large
    backends: [http://vllm-1:8000/v1]
"""


def load(text: str) -> Config:
    return validate(parse(text, "t.yaml", {}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ejection: {max_percent: 100}", "t.yaml:6: ejection.max_percent: would leave nobody to answer"),
        ("ejection: {max_percent: 60}", "ejection.max_percent: leaves less in service than `panic_percent` (50)"),
        ("ejection: {max_percent: 101}", "ejection.max_percent: input should be less than or equal to 100"),
        ("ejection: {seconds: 400}", "ejection.seconds: is more than `max_seconds` (300)"),
        ("breaker: {pause_seconds: 60}", "breaker.pause_seconds: is more than `max_pause_seconds` (30)"),
        ("health: {timeout_seconds: 7}", "health.timeout_seconds: is more than `interval_seconds` (5)"),
        ("timeouts: {first_byte: 700}", "t.yaml:6: timeouts.first_byte: is more than `total` (600), so that it could never run out"),
        ("timeouts: {connect: 9, total: 8}", "timeouts.connect: is more than `total` (8)"),
        ("timeouts: {idle: 9, total: 8}", "timeouts.idle: is more than `total` (8)"),
        ("hedging: {enabled: true}\nretries: {max_attempts: 1}", "hedging.enabled: a hedge is a second attempt"),
        ("hedging: {enabled: true}\nretries: {budget_ratio: 0, budget_minimum: 0}", "hedging.enabled: hedges come out of the budget"),
        ("hedging: {enabled: true, min_delay_ms: 2000}\ntimeouts: {first_byte: 1}", "hedging.min_delay_ms: an attempt that is late"),
        ("breaker: {failure: 3}", "breaker.failure: unknown key, did you mean 'failures'?"),
    ],
)
def test_contradictions_are_refused(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f"{MODELS}{text}\n")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("backends: [http://a:8000/v1]", "backends: [http://a:8000/v1]\n    served_as: small", True),
        ("backends: [http://a/v1]", "backends: [http://b:80/v1, http://A:80/v1/]\n    served_as: small", True),
        ("backends: [http://a:8000/v1]", "backends: [http://a:8000/v1]", False),
        ("backends: [http://a:8000/v1]\n    served_as: Org/X", "backends: [https://a:8000/v1]\n    served_as: Org/X", False),
    ],
)
def test_one_model_of_a_server_has_one_owner(first: str, second: str, clash: bool) -> None:
    text = f"models:\n  - name: small\n    {first}\n  - name: large\n    {second}\n"
    if not clash:
        load(text)
        return
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert "models[1].backends[" in str(caught.value)
    assert "is already the model 'small'" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "timeouts: {total: 30}",
        "timeouts: {first_byte: 30, total: 30}",
        "health: {interval_seconds: 0.5}",
        "ejection: {max_percent: 50}",
        "ejection: {max_percent: 70, panic_percent: 20}",
        "hedging: {min_delay_ms: 200}\nretries: {max_attempts: 1}",
        "hedging: {enabled: true}",
    ],
)
def test_what_is_possible_is_accepted(text: str) -> None:
    load(f"{MODELS}{text}\n")
