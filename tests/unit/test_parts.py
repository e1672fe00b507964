"""Parts go from one gateway to the next as long as what they were made from stays the same."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.parts import Parts


class Service:
    def __init__(self, *needs: Any) -> None:
        self.needs = needs

    async def aclose(self) -> None:
        return None


class Unrelated:
    def run(self) -> None:
        """Is no coroutine, so that nobody runs it as a service."""


def test_equal_settings_keep_a_part_and_others_do_not() -> None:
    first = Parts()
    one = first.get("one", {"size": 1}, object)
    first.finish()
    second = Parts(first)
    assert second.get("one", {"size": 1}, object) is one
    assert Parts(second).get("one", {"size": 2}, object) is not one
    assert Parts(second).get("other", {"size": 1}, object) is not one


def test_a_part_whose_own_part_is_another_one_is_made_anew() -> None:
    def build(parts: Parts, size: int) -> tuple[Service, Service]:
        store = parts.get("store", size, Service)
        return store, parts.get("memory", store, lambda: Service(store))

    first, second, third = Parts(), Parts(), Parts()
    kept = build(first, 1)
    second = Parts(first)
    assert build(second, 1) == kept
    third = Parts(second)
    store, memory = build(third, 2)
    assert store is not kept[0]
    assert memory.needs == (store,)


def test_what_was_made_within_a_part_stays_with_it() -> None:
    def outer(parts: Parts) -> Service:
        return parts.get("outer", None, lambda: Service(parts.get("inner", None, lambda: Service(parts.get("innermost", None, Service)))))

    parts = Parts()
    made = outer(parts)
    services = parts.services()
    assert services == (made.needs[0].needs[0], made.needs[0], made)
    for _ in range(3):
        parts.finish()
        parts = Parts(parts)
        assert outer(parts) is made
        assert parts.services() == services


def test_a_part_that_cannot_be_made_leaves_no_trace() -> None:
    parts = Parts()

    def fails() -> None:
        parts.get("inner", None, Service)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # ours, a line above
        parts.get("outer", None, fails)
    assert parts.get("next", None, Service) in parts.services()


def test_services_are_what_runs_or_closes() -> None:
    parts = Parts()
    parts.get("number", None, lambda: 7)
    parts.get("unrelated", None, Unrelated)
    service = parts.get("service", None, Service)
    parts.get("the same by another name", None, lambda: service)
    assert parts.services() == (service,)
