"""`pointsman train cascade`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.loading import WRONG_INPUT
from gateway.cli.training import (
    AnswersOption,
    Course,
    EncoderOption,
    ModelsOption,
    OutcomesOption,
    OutOption,
    SeedOption,
    VectorsOption,
    load_recorded,
    progress,
)

if TYPE_CHECKING:
    from pathlib import Path

    from routers.learning.stopping import Target


def train_cascade(
    outcomes: OutcomesOption,
    answers: AnswersOption,
    out: OutOption,
    models: ModelsOption = None,
    encoder: EncoderOption = "minilm",
    vectors: VectorsOption = None,
    seed: SeedOption = 0,
    max_mean_usd: Annotated[
        float | None, typer.Option(min=0, help="the most that a question may cost on average; default: as much as the best single model")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="instead: the mean score that must be reached, as cheaply as may be")
    ] = None,
) -> None:
    """Whom to ask in which order, when to stop, and how likely answers are right: for `cascade`, its judge `learned`, and `ensemble`."""
    if max_mean_usd is not None and min_accuracy is not None:
        typer.echo("name one of --max-mean-usd and --min-accuracy", err=True)
        raise typer.Exit(WRONG_INPUT)
    from routers.learning.stopping import Target

    _train(Course(outcomes, out, models, encoder, vectors, seed), answers, Target(max_mean_usd, min_accuracy))


def _train(course: Course, answers: Path, target: Target) -> None:
    from datetime import UTC, datetime

    from gateway.cli.learning import encode, encoder_named, training

    with training(course.out):
        from routers.learning.cascade import check, fit, keep

        recorded = load_recorded(course, answers)
        check(recorded)
        encoder = encoder_named(course.encoder)
        vectors = encode(list(recorded.prompts), encoder, course.vectors)
        fitted = fit(recorded, vectors, target, course.seed, progress("cascade"))
        keep(course.out, fitted, encoder, datetime.now(UTC))
    way = fitted.way
    order = ", ".join(recorded.models[column] for column in way.order)
    stop = f"stops at {way.threshold:g}" if len(way.order) > 1 else "one call"
    typer.echo(
        f"{course.out}: cascade over {order}; {stop}; on questions that it had not seen {way.score:.4f} for {way.cost:.3g} USD a question, "
        f"{way.calls:.2f} calls"
    )
