"""The section `admission` of the configuration: what it takes, and what it refuses, with the path."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config import Config, validate
from gateway.source import ConfigError, Source
from tests.gateways import model


def read(section: dict[str, Any]) -> Config:
    return validate(Source("test.yaml", {"models": [model("small", "http://127.0.0.1:9/v1")], "admission": section}))


def test_without_a_word_nothing_is_limited() -> None:
    section = read({}).admission
    assert section.max_inflight is None
    assert section.queue.interactive.max_wait_seconds <= section.queue.batch.max_wait_seconds


@pytest.mark.parametrize("given", [1, "7", "adaptive"])
def test_limits(given: int | str) -> None:
    assert read({"max_inflight": given}).admission.max_inflight == (7 if given == "7" else given)


@pytest.mark.parametrize(
    ("section", "path", "wrong"),
    [
        ({"max_inflight": 0}, "admission.max_inflight", "neither a number of calls (1 or more) nor `adaptive`"),
        ({"max_inflight": True}, "admission.max_inflight", "neither a number"),
        ({"max_inflight": "adaptiv"}, "admission.max_inflight", "neither a number"),
        ({"max_inflight": 10**9}, "admission.max_inflight", "neither a number"),
        ({"adaptive": {"min": 20, "max": 10}}, "admission.adaptive.min", "is more than `max` (10)"),
        ({"adaptive": {"initial": 5, "min": 8}}, "admission.adaptive.initial", "is not between `min` (8) and `max` (1024)"),
        ({"queue": {"batch": {"max_wait_seconds": 1}}}, "admission.queue.batch.max_wait_seconds", "less than that of `interactive`"),
        ({"queue": {"interactive": {"size": -1}}}, "admission.queue.interactive.size", "greater than or equal to 0"),
        ({"batch_share": 0.9}, "admission.batch_share", "less than or equal to 0.5"),
        ({"queues": {}}, "admission.queues", "unknown key"),
    ],
)
def test_what_cannot_be(section: dict[str, Any], path: str, wrong: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(section)
    assert path in str(caught.value)
    assert wrong in str(caught.value)
