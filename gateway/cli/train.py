"""`pointsman train`"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.loading import WRONG_INPUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from routers.api import Encoder, Model
    from routers.families import Family
    from routers.learning.outcomes import Outcomes
    from routers.learning.train import School

ROUTERS = (
    "knn clusters pilot two_step matrix_factorization latent mlp gbm graph adapter language prior blend".split()  # the keys of FAMILIES
)

ROUNDS = "rl-rounds"
"""Not a router that asks once: it learns from recorded answers."""


def train(
    router: Annotated[str, typer.Argument(help="what to fit: " + ", ".join((*ROUTERS, ROUNDS)))],
    outcomes: Annotated[Path, typer.Option(help="an outcomes table (Parquet)")],
    out: Annotated[Path, typer.Option(help="folder of the artifact; one that lies there is replaced")],
    models: Annotated[str | None, typer.Option(help="the models to choose among, with commas between; default: all of the table")] = None,
    cards: Annotated[
        Path | None, typer.Option(help="prices and descriptions of the models; default: models.jsonl or .parquet beside the table")
    ] = None,
    encoder: Annotated[str, typer.Option(help="what turns prompts into vectors: minilm or static")] = "minilm",
    vectors: Annotated[Path | None, typer.Option(help="a file that keeps the prompts' vectors for the next time")] = None,
    seed: Annotated[int, typer.Option(help="training is the same each time from the same seed")] = 0,
    members: Annotated[str | None, typer.Option(help="blend: its members, with commas between")] = None,
    max_mean_usd: Annotated[float | None, typer.Option(help="two_step: the most that a question may cost on average")] = None,
    max_billions: Annotated[float | None, typer.Option(help="two_step: the most parameters of all models that are kept")] = None,
    answers: Annotated[Path | None, typer.Option(help="rl-rounds: recorded answers to the table's questions (Parquet)")] = None,
) -> None:
    """Fit a router to the train split of an outcomes table, its knobs to the validation split, and write an artifact."""
    from gateway.cli.learning import encode, encoder_named, load_outcomes, training

    if router == ROUNDS:
        from gateway.cli.rounds import train_rounds

        train_rounds(outcomes, answers, models, out, encoder, vectors, seed)
        return
    if router not in ROUTERS:
        typer.echo(f"there is no router named {router!r} to train; known: {', '.join((*ROUTERS, ROUNDS))}", err=True)
        raise typer.Exit(WRONG_INPUT)
    known = _cards(cards, outcomes)
    table, whole = load_outcomes(outcomes, models, known if router == "prior" else {})
    encoding = encoder_named(encoder)
    from routers.learning.train import school

    used = [place for place, split in enumerate(table.splits) if split != "test"]
    seen, others = table.rows(used), whole.rows(used).of([name for name in whole.models if name not in table.models])
    newcomers = _newcomers(table, models) if router == "prior" else ()
    with training(out):
        family = _family(router, members, max_mean_usd, max_billions)
        lessons = school(seen, encode(list(seen.prompts), encoding, vectors), known, newcomers, others)
        _fit(router, family, lessons, encoding, seen.data_hash, seed, out)


def _fit(name: str, family: Family, lessons: School, encoder: Encoder, data_hash: str, seed: int, out: Path) -> None:
    from datetime import UTC, datetime

    from routers.learning.train import keep
    from routers.learning.train import train as fit

    fitted = fit(family, lessons, seed, lambda what: typer.echo(f"{name}: {what}", err=True))
    keep(out, name, lessons, fitted, encoder, data_hash, datetime.now(UTC))
    worth = f"; AIQ on validation {fitted.metrics['validation_aiq']:.4f}" if "validation_aiq" in fitted.metrics else ""
    typer.echo(f"{out}: {name} over {len(lessons.lessons.models)} models, knob {fitted.knob:g}{worth}")


def _family(name: str, members: str | None, max_mean_usd: float | None, max_billions: float | None) -> Family:
    """The family with the options that only it has. Raises ValueError for an option of another one."""
    from routers.families import FAMILIES
    from routers.scorers import blend, two_step

    family = FAMILIES[name]
    if members is not None:
        if name != "blend":
            raise ValueError("--members is for blend alone")
        return replace(family, fit=partial(blend.fit, members=tuple(one.strip() for one in members.split(",") if one.strip())))
    if max_mean_usd is not None or max_billions is not None:
        if name != "two_step":
            raise ValueError("--max-mean-usd and --max-billions are for two_step alone")
        return replace(family, fit=partial(two_step.fit, bounds=two_step.Bounds(max_mean_usd, max_billions)))
    return family


def _cards(path: Path | None, outcomes: Path) -> Mapping[str, Model]:
    """What is known of models: from the file that was named, or from one that lies beside the table; none is fine."""
    from routers.learning.cards import BadCards, beside, load

    found = path or beside(outcomes)
    if found is None:
        return {}
    try:
        return load(found, outcomes.stem)
    except BadCards as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_INPUT) from None


def _newcomers(table: Outcomes, models: str | None) -> tuple[str, ...]:
    """Models that were named and have no outcome."""
    named = [name.strip() for name in (models or "").split(",") if name.strip()]
    return tuple(name for name in named if name not in table.models)
