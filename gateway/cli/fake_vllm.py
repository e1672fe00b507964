"""`pointsman fake-vllm`"""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.loading import WRONG_INPUT


def fake_vllm(
    model: Annotated[list[str], typer.Option(help="name that it serves; may be repeated")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")] = 8000,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    skill: Annotated[float, typer.Option(min=0, max=1, help="how difficult a task it solves")] = 0.5,
    latency: Annotated[str, typer.Option(help="none, small, medium, large, or ttft=MS,prefill=MS,tpot=MS,seqs=N")] = "none",
    fault: Annotated[list[str] | None, typer.Option(help="NAME[:ARG][@every=N|@first=N|@after=N|@p=X]; may be repeated")] = None,
    words: Annotated[int, typer.Option(min=1, max=10_000, help="length of its prose")] = 24,
    max_model_len: Annotated[int, typer.Option(min=16, help="tokens of prompt and answer")] = 32768,
    api_key: Annotated[str | None, typer.Option(help="bearer token that it asks for")] = None,
    residency: Annotated[
        str, typer.Option(help="how long it takes to sleep, wake and load: none, small, medium, large, or size=GB,scale=X,level=N,…")
    ] = "none",
    seed: Annotated[int, typer.Option(help="for faults by chance")] = 0,
) -> None:
    """Run a stand-in for a vLLM server: its HTTP surface, latency and faults, but no model."""
    from backends.fake import engine, faults
    from backends.fake import residency as residency_of
    from backends.fake.endpoints import create
    from backends.fake.shapes import Character

    try:
        timing = engine.parse(latency)
        switching = residency_of.parse(residency)
        schedule = [faults.parse(text) for text in fault or []]
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_INPUT) from None
    characters = [Character(name, skill, words, max_model_len) for name in model]
    server = create(characters, latency=timing, faults=schedule, seed=seed, api_key=api_key, residency=switching)
    _run(server.start(host, port), ", ".join(model))


def _run(start: object, names: str) -> None:
    import asyncio
    import signal

    import uvloop

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        typer.echo(f"fake vLLM: {names} at {await start}")  # type: ignore[misc]
        await stop.wait()

    uvloop.run(serve())
