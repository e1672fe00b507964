"""`pointsman train rl-rounds-join`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.training import AnswersOption, OutcomesOption, OutOption, VectorsOption


def join_rounds(
    model: Annotated[str, typer.Argument(help="the newcomer, by its name in the tables")],
    artifact: Annotated[Path, typer.Option(help="what `pointsman train rl-rounds` has made of the other models")],
    outcomes: OutcomesOption,
    answers: AnswersOption,
    out: OutOption,
    vectors: VectorsOption = None,
) -> None:
    """One more model for a policy that was trained without it, from fifty outcomes or more: no net is trained, it takes seconds."""
    from datetime import UTC, datetime

    from gateway.cli.learning import encode, load_outcomes, training

    with training(out):
        from routers.learning.answers import load
        from routers.learning.rounds.joining import join, keep
        from routers.rounds.experience import Experience

        known = Experience.load(artifact)
        table, _ = load_outcomes(outcomes, ",".join(dict.fromkeys([*known.models, model])))
        recorded = load(answers, table.rows([place for place, split in enumerate(table.splits) if split != "test"]))
        joined = join(known, model, recorded, encode(list(recorded.prompts), known.encoder, vectors))
        keep(out, artifact, joined, datetime.now(UTC))
    typer.echo(f"{out}: rl-rounds over {len(joined.known.models)} models; {model} joined with {joined.outcomes} outcomes")
