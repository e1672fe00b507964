"""The command line: one file a command. What a command needs is imported when it runs, so that `--help` stays quick."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway import __version__
from gateway.cli.artifacts import artifacts
from gateway.cli.calibrate import calibrate
from gateway.cli.check import check
from gateway.cli.demo import demo
from gateway.cli.evaluate import evaluate
from gateway.cli.explain import explain
from gateway.cli.fake_vllm import fake_vllm
from gateway.cli.keys import keys
from gateway.cli.ledger import ledger
from gateway.cli.outcomes import outcomes
from gateway.cli.plugins import plugins
from gateway.cli.replay import replay
from gateway.cli.serve import serve
from gateway.cli.train import train

app = typer.Typer(
    name="pointsman",
    help="An LLM router serving gateway: one OpenAI-style address, the right vLLM model for each request.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (serve, demo, check, explain, replay, calibrate, evaluate, plugins):
    app.command()(command)
app.command("fake-vllm")(fake_vllm)
app.add_typer(train, name="train")
app.add_typer(artifacts, name="artifacts")
app.add_typer(keys, name="keys")
app.add_typer(ledger, name="ledger")
app.add_typer(outcomes, name="outcomes")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pointsman {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """An LLM router serving gateway: one OpenAI-style address, the right vLLM model for each request."""
