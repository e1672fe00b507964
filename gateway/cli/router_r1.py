"""`pointsman train router-r1`"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gateway.cli.loading import WRONG_INPUT
from gateway.cli.training import AnswersOption, ModelsOption, OutcomesOption, OutOption, SeedOption, progress

if TYPE_CHECKING:
    from asyncio import Runner
    from contextlib import AsyncExitStack

    from gateway.calibration.asking import Asker
    from gateway.config import Config
    from gateway.fleet import Fleet
    from routers.api import Model
    from routers.learning.outcomes import Outcomes
    from routers.learning.router_r1.course import Course
    from routers.learning.router_r1.episodes import Asked, Experts, Told

CHECKPOINTS = ".checkpoints"
CONCURRENCY = 8
"""Calls at once to one backend of a live expert."""


def train_router_r1(
    outcomes: OutcomesOption,
    answers: AnswersOption,
    out: OutOption,
    policy: Annotated[str, typer.Option(help="the LLM that learns: a folder of its weights, or its name on the Hugging Face hub")],
    models: ModelsOption = None,
    cards: Annotated[
        Path | None, typer.Option(help="prices and descriptions of the experts; default: models.jsonl or .parquet beside the table")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="a gateway's configuration: its models are asked, not the recorded answers")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="updates")] = 225,
    batch: Annotated[int, typer.Option(min=2, help="episodes of an update")] = 64,
    group: Annotated[int, typer.Option(min=2, help="episodes of one question in it")] = 8,
    at_once: Annotated[int, typer.Option(min=1, help="episodes that go through the policy together, on each device")] = 4,
    rate: Annotated[float, typer.Option(min=0, help="of learning")] = 1e-6,
    kl: Annotated[float, typer.Option(min=0, help="what a nat of distance to the untaught policy costs")] = 0.001,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="how much cost counts among right answers")] = 0.5,
    max_asks: Annotated[int, typer.Option(min=1, max=16, help="how often the policy may ask in an episode")] = 4,
    policy_tokens: Annotated[int, typer.Option(min=16, help="its longest turn")] = 600,
    expert_tokens: Annotated[int, typer.Option(min=16, help="the longest answer of a live expert")] = 1024,
    lora: Annotated[int, typer.Option(min=0, help="rank of the adapters that learn; 0: all weights do")] = 0,
    layers: Annotated[int, typer.Option(min=0, help="so many of its last layers learn; 0: all")] = 0,
    warm_up: Annotated[int, typer.Option("--warm-up", min=0, help="transcripts of a script that it imitates first")] = 0,
    warm_rate: Annotated[float, typer.Option(min=0, help="of learning, while it imitates")] = 1e-5,
    longest: Annotated[int | None, typer.Option(min=1, help="leave out questions of more characters")] = None,
    save_every: Annotated[int, typer.Option(min=1, help="steps between checkpoints")] = 25,
    export: Annotated[bool, typer.Option("--export", help="instead, write the questions into --out as veRL reads them")] = False,
    seed: SeedOption = 0,
) -> None:
    """An LLM that thinks, asks experts and answers, by GRPO with the planner's own rounds. For the planner `router_r1`.

    Run again, it goes on from its newest checkpoint.
    """
    from routers.learning.router_r1.course import Course

    course = Course(
        policy, steps, batch, group, at_once, rate, kl, alpha=alpha, max_asks=max_asks, policy_tokens=policy_tokens,
        expert_tokens=expert_tokens, lora=lora, layers=layers, warm_up=warm_up, warm_rate=warm_rate, save_every=save_every, seed=seed,
    )  # fmt: skip
    if export:
        _export(outcomes, answers, out, models, cards, longest)
        return
    _train(course, outcomes, answers, out, models, cards, config, longest)


def _export(outcomes: Path, answers: Path, out: Path, models: str | None, cards: Path | None, longest: int | None) -> None:
    from gateway.cli.learning import load_outcomes

    table, _ = load_outcomes(outcomes, models)
    table = table.rows([place for place, split in enumerate(table.splits) if split != "test"])
    with _failures(out):
        from routers.learning.router_r1.exchange import write
        from routers.learning.router_r1.questions import load

        questions = [one for one in load(answers, table) if longest is None or len(one.text) <= longest]
        for path in write(out, questions, _described(table, outcomes, cards)):
            typer.echo(str(path))


def _train(
    course: Course,
    outcomes: Path,
    answers: Path,
    out: Path,
    models: str | None,
    cards: Path | None,
    config: Path | None,
    longest: int | None,
) -> None:
    from datetime import UTC, datetime

    from gateway.cli.learning import load_outcomes

    table, _ = load_outcomes(outcomes, models)
    table = table.rows([place for place, split in enumerate(table.splits) if split == "train"])
    with _failures(out), _experts(table, outcomes, cards, config) as (experts, asked):
        course.check()
        from routers.learning.router_r1.questions import load

        questions = [one for one in load(answers, table) if longest is None or len(one.text) <= longest]
        from routers.learning.router_r1.keeping import keep
        from routers.learning.router_r1.training import train

        say = progress("router-r1")
        say(f"{len(questions)} questions, {len(experts)} experts")
        folder = out.with_name(f"{out.name}{CHECKPOINTS}")
        curve, save = train(course, questions, experts, asked, folder, table.data_hash, say)
        keep(out, save, course, list(experts), curve, table.data_hash, datetime.now(UTC))
    last = curve[-1]
    typer.echo(f"{out}: router-r1 over {len(experts)} experts, {len(curve)} steps; format {last.format:.2f}, reward {last.reward:+.3f}")


@contextmanager
def _failures(out: Path) -> Iterator[None]:
    """What ends the command, each with its line on stderr and its exit code."""
    from routers.artifacts import BadArtifact

    try:
        yield
    except ImportError as error:
        _end(f"needs {error.name}: pip install 'pointsman[grpo]'", 1)
    except (ValueError, BadArtifact) as error:
        _end(str(error))
    except KeyboardInterrupt:
        _end("stopped; the same command goes on from the newest checkpoint", 1)
    except OSError as error:
        _end(f"{error.filename or out}: {error.strerror or error}", 1)


def _end(message: str, code: int = WRONG_INPUT) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


def _experts(
    table: Outcomes, outcomes: Path, cards: Path | None, config: Path | None
) -> AbstractContextManager[tuple[Mapping[str, Model], Experts]]:
    """The experts as the policy reads of them, and who answers for them."""
    if config is not None:
        return live(config, table.models)
    from routers.learning.router_r1.episodes import RecordedExperts

    return nullcontext((_described(table, outcomes, cards), RecordedExperts()))


def _described(table: Outcomes, outcomes: Path, path: Path | None) -> Mapping[str, Model]:
    """As the file of models has them; one that is not in it has its name alone. Raises ValueError."""
    from routers.api import Model
    from routers.learning.cards import beside, load

    found = path or beside(outcomes)
    known = {} if found is None else load(found, outcomes.stem)
    return {name: known.get(name, Model(name)) for name in table.models}


@contextmanager
def live(path: Path, names: Sequence[str]) -> Iterator[tuple[Mapping[str, Model], Experts]]:
    """The models of a configuration, as experts that are asked within this. Ends the command where one of `names` is not in it, or has no
    price.
    """
    import asyncio
    from contextlib import AsyncExitStack

    from gateway.config import read
    from gateway.source import ConfigError

    try:
        config = read(path)
    except ConfigError as error:
        _end("\n".join(error.lines()))
    known = {model.name: model.price for model in config.models}
    missing = [name for name in names if name not in known]
    if missing:
        _end(f"{path}: there is no model named {', '.join(missing)}; name those that are to be asked with --models")
    unpriced = [name for name in names if known[name] is None]
    if unpriced:
        _end(f"{path}: without a price of {', '.join(unpriced)} nobody learns what asking costs")
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            fleet, asker = runner.run(_open(config, path.parent, stack))
            yield {name: fleet[name].model for name in names}, LiveExperts(asker, runner)
        finally:
            runner.run(stack.aclose())


async def _open(config: Config, folder: Path, stack: AsyncExitStack) -> tuple[Fleet, Asker]:
    """Builds what `serve` would ask models with; the stack closes it."""
    import time
    from random import Random

    from backends.deadlines import Deadlines
    from gateway.build_fleet import build_fleet, discovered
    from gateway.calibration.asking import Asker

    fleet = build_fleet(config, Deadlines(), Random(), folder=folder)
    for served in fleet:
        for backend in served.pool.backends:
            stack.push_async_callback(backend.transport.aclose)
    await stack.enter_async_context(discovered(fleet))
    return fleet, Asker(fleet, CONCURRENCY, None, clock=time.perf_counter, wall_clock=time.time)


class LiveExperts:
    """Experts that are asked as the gateway asks, all of a round side by side."""

    def __init__(self, asker: Asker, runner: Runner) -> None:
        self._asker, self._runner = asker, runner

    def answer(self, asked: Sequence[Asked]) -> Sequence[Told]:
        return self._runner.run(self._all(asked))

    async def _all(self, asked: Sequence[Asked]) -> list[Told]:
        import asyncio

        return list(await asyncio.gather(*(self._one(one) for one in asked)))

    async def _one(self, asked: Asked) -> Told:
        from gateway.calibration.asking import NoAnswer
        from routers.learning.router_r1.episodes import Told

        try:
            found = await self._asker.ask(asked.model, [{"role": "user", "content": asked.prompt}], asked.max_tokens)
        except NoAnswer as error:
            return Told(None, 0.0, error=str(error))
        tokens = None if found.usage is None else found.usage.completion_tokens
        return Told(found.text, found.cost_usd, found.seconds, tokens=tokens)
