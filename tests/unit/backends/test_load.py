"""Loads are shared by server, get stale, and are never taken for none."""

from __future__ import annotations

import gc

import pytest

from backends.load import WAITING_COUNTS, Load, Loads, Sample, root_url


def test_a_load_is_unknown_until_the_first_reading_and_once_that_is_stale() -> None:
    load = Load(stale_seconds=5)
    assert (load.running, load.waiting, load.kv_cache, load.at, load.is_fresh(0.0)) == (None, None, None, None, False)
    load.observe(Sample(3, 2, 0.5, frozenset({"sql"})), 10.0)
    assert (load.running, load.waiting, load.kv_cache, load.adapters, load.at) == (3, 2, 0.5, frozenset({"sql"}), 10.0)
    assert load.work == 3 + 2 * WAITING_COUNTS
    assert load.is_fresh(10.0)
    assert load.is_fresh(15.0)
    assert not load.is_fresh(15.1)
    assert (load.running, load.at) == (3, 10.0), "what was read stays, for whoever wants to see it"


def test_calls_since_the_reading_are_counted_until_the_next() -> None:
    load = Load()
    for _ in range(3):
        load.started()
    load.finished()
    assert load.drift == 2
    load.observe(Sample(2, 0), 1.0)
    assert load.drift == 0
    load.finished()
    assert load.drift == -1


@pytest.mark.parametrize(("usage", "room"), [(None, 1.0), (0.0, 1.0), (0.8, 1.0), (0.9, 0.5), (1.0, 0.0)])
def test_a_full_cache_leaves_no_room(usage: float | None, room: float) -> None:
    load = Load()
    load.observe(Sample(1, 0, usage), 0.0)
    assert load.room == pytest.approx(room)


def test_a_reading_without_requests_says_nothing_of_them() -> None:
    load = Load()
    load.observe(Sample(kv_cache=0.2), 0.0)
    assert load.work is None


def test_models_at_one_server_share_its_load_and_a_server_without_backends_is_forgotten() -> None:
    loads = Loads()
    one, two = loads.of("http://a:8000/v1"), loads.of("http://a:8000/v1/")
    assert one is two
    assert loads.of("http://a:8001/v1") is not one
    gc.collect()
    assert len(loads) == 1
    del one, two
    gc.collect()
    assert len(loads) == 0


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("http://a:8000/v1", "http://a:8000"),
        ("http://a:8000/v1/", "http://a:8000"),
        ("https://a/models/small/v1", "https://a/models/small"),
        ("http://a", "http://a"),
    ],
)
def test_the_root_of_a_server(url: str, root: str) -> None:
    assert root_url(url) == root
