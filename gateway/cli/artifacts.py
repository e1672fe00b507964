"""`pointsman artifacts`"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeAlias

import typer

from gateway.cli.loading import WRONG_INPUT

if TYPE_CHECKING:
    from routers.changes import Apart, Change
    from routers.versions import Version, Versions

PAGE_WIDTH = 160
FolderArgument: TypeAlias = Annotated[Path, typer.Argument(metavar="DIR", help="the folder that `pointsman train` wrote")]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="print one JSON document")]

artifacts = typer.Typer(help="Versions of learned state.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@artifacts.command("list")
def list_command(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Show the versions of an artifact: the trained one, and those that the gateway made as it learned."""
    with _failures():
        versions = _versions(folder)
        found, history = versions.all(), versions.history()
    if as_json:
        steps = [step.model_dump(mode="json") for step in history]
        serves = next((one.name for one in found if one.serves), None)
        _print_json({"artifact": str(folder), "serving": serves, "versions": [_document(one) for one in found], "history": steps})
        return
    rows = [[one.name, "serves" if one.serves else "", *_cells(one)] for one in found]
    _print_table(("version", "", "created", "kind", "learned outcomes", "made of", "hash"), rows)
    for step in history:
        if step.why == "rollback":
            typer.echo(f"{step.at:%Y-%m-%d %H:%M:%S}  rolled back to {step.version}")


@artifacts.command("diff")
def diff(
    folder: FolderArgument,
    before: Annotated[str | None, typer.Argument(metavar="[A]", help="a version; default: the trained one")] = None,
    after: Annotated[str | None, typer.Argument(metavar="[B]", help="a version; default: the one that serves")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which tensors differ between two versions, and by how much; for each model, where that can be told."""
    from routers.changes import changes
    from routers.versions import TRAINED

    with _failures():
        versions = _versions(folder)
        names = versions.find(before or TRAINED), versions.find(after or versions.serving().name)
        old, new = (versions.load(name) for name in names)
        found = changes(old, new, _axes(new.manifest.kind))
    if as_json:
        from dataclasses import asdict

        _print_json({"artifact": str(folder), "from": names[0], "to": names[1], "tensors": [asdict(change) for change in found]})
        return
    if not found:
        typer.echo(f"{names[0]} and {names[1]} hold the same numbers")
        return
    _print_table(("tensor", "model", "largest change", "mean change"), [row for change in found for row in _rows(change)])


@artifacts.command("rollback")
def rollback(
    folder: FolderArgument,
    version: Annotated[str | None, typer.Argument(help="a name or a number; default: what the serving one was made of")] = None,
    as_json: JsonOption = False,
) -> None:
    """Let an older version serve. Nothing is deleted; a running gateway follows within seconds, and learns on from there."""
    from datetime import UTC, datetime

    with _failures():
        versions = _versions(folder)
        before = versions.serving().name
        name = versions.parent(before) if version is None else versions.find(version)
        changed = versions.roll_back(name, datetime.now(UTC))
    if as_json:
        _print_json({"artifact": str(folder), "from": before, "to": name, "changed": changed})
        return
    typer.echo(f"{folder}: {name} serves" + (f" in place of {before}" if changed else " already"))


def _versions(folder: Path) -> Versions:
    """Exit code 2 if there is no artifact, so that a mistyped folder is not taken for a damaged one."""
    from routers.artifacts import MANIFEST
    from routers.versions import Versions

    if not (folder / MANIFEST).is_file():
        _refuse(f"{folder}: is no artifact: there is no {MANIFEST} in it")
    return Versions(folder)


@contextmanager
def _failures() -> Iterator[None]:
    """What was asked for is not there (2), or what is there is damaged or cannot be written (1)."""
    from routers.artifacts import BadArtifact
    from routers.versions import NoSuchVersion

    try:
        yield
    except NoSuchVersion as error:
        _refuse(str(error))
    except BadArtifact as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        typer.echo(f"{error.filename}: {error.strerror or type(error).__name__}", err=True)
        raise typer.Exit(1) from None


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(WRONG_INPUT)


def _axes(kind: str) -> Mapping[str, int]:
    """The tensors of a kind in which a dimension is the models; none for kinds that do not learn."""
    from routers.families import FAMILIES
    from routers.online import LearningScorer

    family = FAMILIES.get(kind)
    if family is None or not issubclass(family.scorer, LearningScorer):
        return {}
    return {f"router/{name}": axis for name, axis in family.scorer.learned.items()}


def _document(one: Version) -> dict[str, Any]:
    return {
        "version": one.name,
        "folder": str(one.folder),
        "serves": one.serves,
        "created": None if one.created is None else one.created.isoformat(),
        "kind": one.kind,
        "learned_outcomes": one.outcomes,
        "parent": one.parent,
        "hash": one.hash,
        "problem": one.problem,
    }


def _cells(one: Version) -> list[str]:
    if one.created is None:
        return [f"damaged: {one.problem}", "", "", "", ""]
    created = f"{one.created:%Y-%m-%d %H:%M:%S}"
    return [created, one.kind or "", str(one.outcomes), one.parent or "", (one.hash or "")[:12]]


def _rows(change: Change) -> list[list[str]]:
    if change.apart is None:
        return [[change.tensor, "", change.what, ""]]
    models = [[change.tensor, name, *_numbers(apart)] for name, apart in change.models.items()]
    return [[change.tensor, "all", *_numbers(change.apart)], *models]


def _numbers(apart: Apart) -> list[str]:
    return [f"{apart.largest:.6g}", f"{apart.mean:.6g}"]


def _print_json(document: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def _print_table(headings: tuple[str, ...], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for heading in headings:
        table.add_column(heading)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    (console if console.is_terminal else Console(width=PAGE_WIDTH)).print(table)
