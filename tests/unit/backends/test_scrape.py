"""What several versions of vLLM say of their load, and reading it from sockets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.api import Header, Transport
from backends.http1 import Http1Transport
from backends.load import Load, Loads, Sample
from backends.scrape import MAX_PAUSE, Scraper, Scrapers, parse
from tests.gateways import fake, until
from tests.unit.backends.standins import Clock

V0_6 = b"""# HELP vllm:num_requests_running Running requests.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="meta-llama/Llama-3.1-8B-Instruct"} 3.0
# TYPE vllm:num_requests_swapped gauge
vllm:num_requests_swapped{model_name="meta-llama/Llama-3.1-8B-Instruct"} 7.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{model_name="meta-llama/Llama-3.1-8B-Instruct"} 2.0
# TYPE vllm:gpu_cache_usage_perc gauge
vllm:gpu_cache_usage_perc{model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.42
# TYPE vllm:cpu_cache_usage_perc gauge
vllm:cpu_cache_usage_perc{model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.9
vllm:lora_requests_info{max_lora="2",running_lora_adapters="law",waiting_lora_adapters=""} 1.0
vllm:lora_requests_info{max_lora="2",running_lora_adapters="sql,chat",waiting_lora_adapters="law"} 1.0
"""

V0_9 = b"""vllm:num_requests_running{engine="0",model_name="small"} 12.0
vllm:num_requests_waiting{engine="0",model_name="small"} 0.0
vllm:gpu_cache_usage_perc{engine="0",model_name="small"} 0.25
vllm:gpu_prefix_cache_queries_total{engine="0",model_name="small"} 1000.0
"""

V0_10 = b"""vllm:num_requests_running{engine="0",model_name="small"} 1.0
vllm:num_requests_waiting{engine="0",model_name="small"} 4.0
vllm:gpu_cache_usage_perc{engine="0",model_name="small"} 0.125
vllm:kv_cache_usage_perc{engine="0",model_name="small"} 0.125
"""

# Two data-parallel engines, and gauges whose names begin like ours.
V0_20 = b"""vllm:num_requests_running{engine="0",model_name="small"} 5.0
vllm:num_requests_running{engine="1",model_name="small"} 6.0
vllm:num_requests_waiting{engine="0",model_name="small"} 1.0
vllm:num_requests_waiting{engine="1",model_name="small"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="small",reason="capacity"} 100.0
vllm:kv_cache_usage_perc{engine="0",model_name="small"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="small"} 0.75
vllm:kv_cache_usage_percentile{engine="1",model_name="small"} 1.0
vllm:lora_requests_info{max_lora="2",running_lora_adapters="sql",waiting_lora_adapters=""} 1.7886264546e+09
vllm:lora_requests_info{max_lora="2",running_lora_adapters="",waiting_lora_adapters=""} 1.7886264577e+09
vllm:lora_requests_info{max_lora="2",running_lora_adapters="chat,sql",waiting_lora_adapters=""} 1.7886264563e+09
vllm:lora_requests_info{max_lora="2",running_lora_adapters="law",waiting_lora_adapters="law"} 1.7886264500e+09
"""


@pytest.mark.parametrize(
    ("text", "sample"),
    [
        (V0_6, Sample(3, 2, 0.42, frozenset({"sql", "chat"}), 2)),
        (V0_9, Sample(12, 0, 0.25)),
        (V0_10, Sample(1, 4, 0.125)),
        (V0_20, Sample(11, 3, 0.75, frozenset({"chat", "sql"}), 2)),
    ],
    ids=["0.6", "0.9", "0.10", "0.20"],
)
def test_every_version_is_read(text: bytes, sample: Sample) -> None:
    assert parse(text) == sample
    assert parse(text.replace(b"\n", b"\r\n")) == sample


@pytest.mark.parametrize(
    ("text", "sample"),
    [
        (b"", None),
        (b"<html>not found</html>", None),
        (b"go_goroutines 12\n", None),
        (b"# vllm:num_requests_running 3\n", None),
        (b"vllm:num_requests_running\n", None),
        (b"vllm:num_requests_running gauge\n", None),
        (b"vllm:num_requests_running NaN\n", None),
        (b"vllm:num_requests_running 3\n", Sample(running=3)),
        (b'vllm:num_requests_running{model_name="a b}{\\""} 3 1700000000000\n', Sample(running=3)),
        (b"vllm:num_requests_waiting{} 4", Sample(waiting=4)),
        (b"vllm:num_requests_running 3\nvllm:num_requests_waiting +Inf\n", Sample(running=3)),
        (b"vllm:num_requests_running -3\n", Sample(running=0)),
        (b"vllm:kv_cache_usage_perc 1.7\n", Sample(kv_cache=1.0)),
        (b"vllm:num_requests_running " + b"9" * 5000 + b"\n", None),
        (b'vllm:lora_requests_info{max_lora="0",running_lora_adapters=""} 1\n', Sample(adapters=frozenset(), adapter_slots=0)),
        (b'vllm:lora_requests_info{running_lora_adapters="a, b"} 2\n', Sample(adapters=frozenset({"a", "b"}))),
    ],
)
def test_odd_texts(text: bytes, sample: Sample | None) -> None:
    assert parse(text) == sample


@given(st.binary(max_size=200), st.sampled_from([V0_6, V0_20]), st.integers(0, 1000), st.integers(0, 300))
def test_a_broken_text_is_no_error_and_no_wild_number(noise: bytes, text: bytes, at: int, cut: int) -> None:
    found = parse(text[:at] + noise + text[at + cut :])
    if found is not None and found.kv_cache is not None:
        assert 0 <= found.kv_cache <= 1


@given(st.permutations(V0_20.splitlines()))
def test_the_order_of_lines_means_nothing(lines: list[bytes]) -> None:
    assert parse(b"\n".join(lines)) == parse(V0_20)


@dataclass(eq=False)
class Expert:
    """A backend, as far as scrapers look at it."""

    url: str
    load: Load
    transport: Transport
    headers: tuple[Header, ...] = field(default=())


def scraper(transport: Transport, load: Load, clock: Clock) -> Scraper:
    return Scraper(transport, load, interval=1.0, timeout=0.3, rng=Random(0), clock=clock)


async def test_a_reading_over_a_socket_and_a_server_that_falls_silent() -> None:
    async with fake("small") as expert:
        transport, load, clock = Http1Transport(expert.url), Load(), Clock(100.0)
        one = scraper(transport, load, clock)
        assert await one.scrape()
        assert (load.running, load.waiting, load.kv_cache, load.at) == (0, 0, 0.0, 100.0)
        expert.free.clear()
        clock.now = 103.0
        assert not await one.scrape()
        assert load.is_fresh(clock.now), "the last reading still counts"
        clock.now = 106.0
        assert not await one.scrape()
        assert not load.is_fresh(clock.now), "nothing was heard: that is no load of 0"
        assert one.failures == 2
        expert.free.set()
        assert await one.scrape()
        assert load.is_fresh(clock.now)
        await transport.aclose()


async def test_requests_at_the_server_are_seen() -> None:
    async with fake("small") as expert:
        transport, load = Http1Transport(expert.url), Load()
        async with expert.engine.place():
            assert await scraper(transport, load, Clock()).scrape()
        assert load.running == 1
        await transport.aclose()


@pytest.mark.parametrize("answer", ["404", "huge", "html", "refused"])
async def test_a_server_without_readings_is_asked_less_and_less(answer: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer == "huge":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nvllm:num_requests_running 3\n")
            while not writer.is_closing():
                writer.write(b"# " + b"x" * 1_000_000 + b"\n")
                await asyncio.sleep(0)
                await writer.drain()
        body = b"vllm:num_requests_running 3\n" if answer == "404" else b"<html></html>"
        status = b"404 Not Found" if answer == "404" else b"200 OK"
        writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = 1 if answer == "refused" else server.sockets[0].getsockname()[1]
    transport, load = Http1Transport(f"http://127.0.0.1:{port}/v1"), Load()
    one = Scraper(transport, load, interval=1.0, timeout=5.0, rng=Random(0), clock=Clock())
    pauses = [one.pause()]
    for _ in range(8):
        assert not await one.scrape()
        pauses.append(one.pause())
    assert 0.8 <= pauses[0] <= 1.2
    assert 0.8 * 2 <= pauses[1] <= 1.2 * 2
    assert pauses[-1] <= 1.2 * MAX_PAUSE
    assert load.at is None
    await transport.aclose()
    server.close()


async def test_there_is_one_scraper_for_each_server_and_none_for_those_that_left() -> None:
    loads = Loads()
    async with fake("small") as one, fake("small") as two:
        first, second, beside = (Expert(url, loads.of(url), Http1Transport(url)) for url in (one.url, two.url, one.url))
        members = [first, second, beside]
        scrapers = Scrapers(lambda: members, interval=0.02, timeout=1.0, rng=Random(0), clock=asyncio.get_running_loop().time)
        running = asyncio.create_task(scrapers.run())
        assert await until(lambda: first.load.at is not None and second.load.at is not None, 10)
        assert len(scrapers) == 2
        assert beside.load is first.load
        members[:] = [beside]
        assert await until(lambda: len(scrapers) == 1, 10)
        before, silent = beside.load.at, second.load.at
        assert await until(lambda: beside.load.at != before, 10), "the server of both is asked through the one that stayed"
        assert second.load.at == silent
        assert scrapers.failures == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert len(scrapers) == 0
        for expert in (first, second, beside):
            await expert.transport.aclose()
