"""`pointsman train rl-rounds`"""

from __future__ import annotations

import typer

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


def train_rounds(
    outcomes: OutcomesOption,
    answers: AnswersOption,
    out: OutOption,
    models: ModelsOption = None,
    encoder: EncoderOption = "minilm",
    vectors: VectorsOption = None,
    seed: SeedOption = 0,
) -> None:
    """Whom to ask next and when to stop, for every price at once: a small policy, by PPO. For the planner `rl_rounds`."""
    from datetime import UTC, datetime

    from gateway.cli.learning import encode, encoder_named, training

    course = Course(outcomes, out, models, encoder, vectors, seed)
    with training(out):
        from routers.learning.rounds.train import keep, train

        recorded = load_recorded(course, answers)
        encoding = encoder_named(encoder)
        found = encode(list(recorded.prompts), encoding, vectors)
        trained = train(recorded, found, seed, progress("rl-rounds"))
        keep(out, trained, encoding, recorded.data_hash, datetime.now(UTC))
    typer.echo(f"{out}: rl-rounds over {len(trained.models)} models; AIQ on validation {trained.metrics['validation_aiq']:.4f}")
