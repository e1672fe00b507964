"""`pointsman train ROUTER`: a command for each router, with the options that it has.

Routers that ask once are families of `routers.families`; all of them are fitted in the same way. What asks several times learns from
recorded answers, each in a way of its own: a function whose parameters are its options, in a file beside this one. To add one, write it
and name it in LEARNED_FROM_ANSWERS.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from gateway.cli.cascade import train_cascade
from gateway.cli.join_rounds import join_rounds
from gateway.cli.loading import WRONG_INPUT
from gateway.cli.rounds import train_rounds
from gateway.cli.router_r1 import train_router_r1
from gateway.cli.training import Course, EncoderOption, ModelsOption, OutcomesOption, OutOption, SeedOption, VectorsOption, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from routers.api import Encoder, Model
    from routers.families import Family
    from routers.learning.outcomes import Outcomes
    from routers.learning.train import School

CardsOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="prices and descriptions of the models; default: models.jsonl or .parquet beside the table")
]


def train_family(
    ctx: typer.Context,
    outcomes: OutcomesOption,
    out: OutOption,
    models: ModelsOption = None,
    cards: CardsOption = None,
    encoder: EncoderOption = "minilm",
    vectors: VectorsOption = None,
    seed: SeedOption = 0,
) -> None:
    """Whose name is the command's: they have no options of their own."""
    _train(str(ctx.info_name), Course(outcomes, out, models, encoder, vectors, seed), cards, lambda family: family)


def train_blend(
    outcomes: OutcomesOption,
    out: OutOption,
    models: ModelsOption = None,
    cards: CardsOption = None,
    encoder: EncoderOption = "minilm",
    vectors: VectorsOption = None,
    seed: SeedOption = 0,
    members: Annotated[str | None, typer.Option(help="who is heard, with commas between")] = None,
) -> None:
    """`blend`: with the members that were named."""

    def settled(family: Family) -> Family:
        if members is None:
            return family
        from routers.scorers import blend

        return replace(family, fit=partial(blend.fit, members=tuple(one.strip() for one in members.split(",") if one.strip())))

    _train("blend", Course(outcomes, out, models, encoder, vectors, seed), cards, settled)


def train_two_step(
    outcomes: OutcomesOption,
    out: OutOption,
    models: ModelsOption = None,
    cards: CardsOption = None,
    encoder: EncoderOption = "minilm",
    vectors: VectorsOption = None,
    seed: SeedOption = 0,
    max_mean_usd: Annotated[float | None, typer.Option(help="the most that a question may cost on average")] = None,
    max_billions: Annotated[float | None, typer.Option(help="the most parameters of all models that are kept")] = None,
) -> None:
    """`two_step`: within bounds, if any were named."""

    def settled(family: Family) -> Family:
        if max_mean_usd is None and max_billions is None:
            return family
        from routers.scorers import two_step

        return replace(family, fit=partial(two_step.fit, bounds=two_step.Bounds(max_mean_usd, max_billions)))

    _train("two_step", Course(outcomes, out, models, encoder, vectors, seed), cards, settled)


ASKING_ONCE: Mapping[str, tuple[Callable[..., None], str]] = MappingProxyType(
    {
        "knn": (train_family, "How well each model did on the prompts that are most like this one."),
        "clusters": (train_family, "Each model's record in the groups of prompts that are nearest."),
        "pilot": (train_family, "Nearness to the prompts that each expert is best at."),
        "two_step": (train_two_step, "First what kind of prompt it is, then who serves that kind."),
        "matrix_factorization": (train_family, "The product of a prompt's few numbers and each model's vector."),
        "latent": (train_family, "Abilities of models against what a prompt asks for and how hard it is."),
        "mlp": (train_family, "A small net with a head for each model."),
        "gbm": (train_family, "Boosted trees over the prompt's meaning and wording."),
        "graph": (train_family, "What is known of like prompts and of the words, passed along a graph."),
        "adapter": (train_family, "Which LoRA adapter of one base model fits."),
        "language": (train_family, "Each model's record in the prompt's language."),
        "prior": (train_family, "Models with few or no outcomes: what their cards promise, mended by what came."),
        "blend": (train_blend, "Several of these together, weighted by where a prompt lies."),
    }
)
"""The keys of `routers.families.FAMILIES`, which is not imported before it is needed: the command of each, and what it is."""

LEARNED_FROM_ANSWERS: Mapping[str, Callable[..., None]] = MappingProxyType(
    {"cascade": train_cascade, "rl-rounds": train_rounds, "rl-rounds-join": join_rounds, "router-r1": train_router_r1}
)

train = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for _name, (_command, _what) in ASKING_ONCE.items():
    train.command(_name, help=_what, rich_help_panel="routers that ask once")(_command)
for _name, _learn in LEARNED_FROM_ANSWERS.items():
    train.command(_name, rich_help_panel="those that ask several times, learned from recorded answers")(_learn)


@train.callback()
def describe() -> None:
    """Fit a router to the train split of an outcomes table, its knobs to the validation split, and write an artifact."""


def _train(name: str, course: Course, cards: Path | None, settled: Callable[[Family], Family]) -> None:
    """`settled`: the family with the options that only it has."""
    from gateway.cli.learning import encode, encoder_named, load_outcomes, training

    known = _cards(cards, course.outcomes)
    table, whole = load_outcomes(course.outcomes, course.models, known if name == "prior" else {})
    encoding = encoder_named(course.encoder)
    from routers.families import FAMILIES
    from routers.learning.train import school

    used = [place for place, split in enumerate(table.splits) if split != "test"]
    seen, others = table.rows(used), whole.rows(used).of([name for name in whole.models if name not in table.models])
    newcomers = _newcomers(table, course.models) if name == "prior" else ()
    with training(course.out):
        family = settled(FAMILIES[name])
        lessons = school(seen, encode(list(seen.prompts), encoding, course.vectors), known, newcomers, others)
        _fit(name, family, lessons, encoding, seen.data_hash, course)


def _fit(name: str, family: Family, lessons: School, encoder: Encoder, data_hash: str, course: Course) -> None:
    from datetime import UTC, datetime

    from routers.learning.train import keep
    from routers.learning.train import train as fit

    fitted = fit(family, lessons, course.seed, progress(name))
    keep(course.out, name, lessons, fitted, encoder, data_hash, datetime.now(UTC))
    worth = f"; AIQ on validation {fitted.metrics['validation_aiq']:.4f}" if "validation_aiq" in fitted.metrics else ""
    typer.echo(f"{course.out}: {name} over {len(lessons.lessons.models)} models, knob {fitted.knob:g}{worth}")


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
