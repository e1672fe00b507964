"""What the commands under `pointsman train` share: their options, and the recorded answers that some of them learn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from routers.learning.answers import Recorded

OutcomesOption: TypeAlias = Annotated[Path, typer.Option(help="an outcomes table (Parquet)")]
OutOption: TypeAlias = Annotated[Path, typer.Option(help="folder of the artifact; one that lies there is replaced")]
ModelsOption: TypeAlias = Annotated[
    str | None, typer.Option(help="the models to choose among, with commas between; default: all of the table")
]
AnswersOption: TypeAlias = Annotated[Path, typer.Option(help="recorded answers to the table's questions (Parquet)")]
EncoderOption: TypeAlias = Annotated[str, typer.Option(help="what turns prompts into vectors: minilm or static")]
VectorsOption: TypeAlias = Annotated[Path | None, typer.Option(help="a file that keeps the prompts' vectors for the next time")]
SeedOption: TypeAlias = Annotated[int, typer.Option(help="training is the same each time from the same seed")]


@dataclass(frozen=True, slots=True)
class Course:
    """What is learned from, and where the artifact goes. `models`: names with commas between; None: all of the table."""

    outcomes: Path
    out: Path
    models: str | None
    encoder: str
    vectors: Path | None
    seed: int


def load_recorded(course: Course, answers: Path) -> Recorded:
    """Answers to the questions of train and validation; those to test are left out. Raises ValueError for what cannot be learned from.
    Ends the command with exit code 2 for a table that cannot be used.
    """
    from gateway.cli.learning import load_outcomes
    from routers.learning.answers import load

    table, _ = load_outcomes(course.outcomes, course.models)
    return load(answers, table.rows([place for place, split in enumerate(table.splits) if split != "test"]))


def progress(name: str) -> Callable[[str], None]:
    """Says on stderr what is being done."""
    return lambda what: typer.echo(f"{name}: {what}", err=True)
