"""`pointsman keys`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.loading import WRONG_INPUT

if TYPE_CHECKING:
    from collections.abc import Mapping

keys = typer.Typer(help="API keys.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@keys.callback()
def _group() -> None:
    """API keys."""


@keys.command("new")
def new(
    name: Annotated[str, typer.Option(help="for people: whose it is, or what for")],
    models: Annotated[str | None, typer.Option(help="the models it may use, with commas between; default: all")] = None,
    routes: Annotated[str | None, typer.Option(help="the routes it may name, with commas between; default: all")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="USD that it may spend in each window")] = None,
    budget_window: Annotated[str | None, typer.Option(help="day or month, in UTC; default: month")] = None,
    rpm: Annotated[int | None, typer.Option(help="requests a minute")] = None,
    tpm: Annotated[int | None, typer.Option(help="tokens a minute")] = None,
    priority: Annotated[str | None, typer.Option(help="interactive or batch; default: interactive")] = None,
    expires: Annotated[str | None, typer.Option(help="2027-01-31 (its start in UTC) or 2027-01-31T18:00:00Z")] = None,
    role: Annotated[str | None, typer.Option(help="user or admin; default: user")] = None,
    file: Annotated[Path | None, typer.Option(help="a keys file to add the entry to; it is made if there is none")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Make an API key: print it once, and the entry for the keys file, which holds only its hash."""
    from gateway.guard.keys import new_key

    key, id, digest = new_key()
    wanted = {
        "id": id,
        "name": name,
        "sha256": digest,
        "models": _names(models),
        "routes": _names(routes),
        "budget_usd": budget_usd,
        "budget_window": budget_window,
        "rpm": rpm,
        "tpm": tpm,
        "priority": priority,
        "expires": expires,
        "role": role,
    }
    entry = _checked({field: value for field, value in wanted.items() if value is not None})
    if file is not None:
        _add(file, entry)
    if as_json:
        typer.echo(json.dumps({"key": key, "entry": entry}, ensure_ascii=False))
        return
    typer.echo(f"{key}\n\nThis is the key. It is not shown again, and it cannot be read from the entry: keep it now.\n")
    typer.echo(
        f"Its entry was added to {file}." if file else f"Its entry, for under `keys:` in the keys file:\n\n{_text(entry, 2)}", nl=bool(file)
    )


def _names(given: str | None) -> list[str] | None:
    return None if given is None else [name.strip() for name in given.split(",") if name.strip()]


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry as it goes into the file. Ends the command if it would not be accepted there."""
    from datetime import UTC, datetime

    from pydantic import ValidationError

    from gateway.guard.keys import KeyEntry, explain

    try:
        expires = KeyEntry.model_validate(entry).expires
    except ValidationError as error:
        for detail in error.errors():
            path, message = explain(dict(detail))
            typer.echo(f"--{str(path[0]).replace('_', '-')}: {message}", err=True)
        raise typer.Exit(WRONG_INPUT) from None
    if expires is None:
        return entry
    if expires <= datetime.now(UTC):
        typer.echo(f"--expires: {expires.isoformat()} is in the past; it should be a time to come", err=True)
        raise typer.Exit(WRONG_INPUT)
    return {**entry, "expires": expires.isoformat()}


def _text(entry: Mapping[str, Any], indent: int) -> str:
    """The entry as an item of a YAML list."""
    import yaml

    lines = yaml.safe_dump([dict(entry)], sort_keys=False, allow_unicode=True, width=1000).splitlines()
    return "".join(f"{' ' * indent}{line}\n" for line in lines)


def _add(file: Path, entry: Mapping[str, Any]) -> None:
    """Adds an entry to a keys file, in one step for those who read it. Ends the command, the file as it was, if that cannot be done."""
    import fcntl
    import os

    path = file.resolve()
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # two commands at once would each write what the other has not
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            _replace(path, _with(before, file, entry))
        finally:
            os.close(folder)
    except UnicodeDecodeError:
        typer.echo(f"{file}:1: is not UTF-8", err=True)
        raise typer.Exit(WRONG_INPUT) from None
    except OSError as error:
        typer.echo(f"{file}: cannot be written: {error.strerror}", err=True)
        raise typer.Exit(1) from None


def _with(before: str, file: Path, entry: Mapping[str, Any]) -> str:
    """A keys file's text with one more entry, its comments as they were."""
    import yaml

    try:
        node = yaml.compose(before, Loader=yaml.SafeLoader)
        old = yaml.safe_load(before) or {}
    except yaml.YAMLError:
        typer.echo(f"{file}: is not valid YAML; `pointsman check` on its configuration says where", err=True)
        raise typer.Exit(WRONG_INPUT) from None
    entries = old.get("keys") or [] if isinstance(old, dict) else None
    after = before
    if node is None:
        after = f"{_ended(before)}keys:\n{_text(entry, 2)}"
    elif isinstance(node, yaml.MappingNode) and [key.value for key, _ in node.value] == ["keys"]:
        held = node.value[0][1]
        if isinstance(held, yaml.SequenceNode) and not held.flow_style:
            after = _ended(before) + _text(entry, held.start_mark.column)
        elif not held.value:  # `keys: []`, or nothing after `keys:`
            after = f"{before[: held.start_mark.index].rstrip()}\n{_text(entry, 2)}{before[held.end_mark.index :].lstrip()}"
    if not isinstance(entries, list) or _parsed(after) != {"keys": [*entries, dict(entry)]}:
        typer.echo(f"{file}: is no keys file that an entry can be added to; it should be `keys:` and a list, one `- ` an entry", err=True)
        raise typer.Exit(WRONG_INPUT)
    return after


def _parsed(text: str) -> object:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _replace(path: Path, text: str) -> None:
    """Puts a text in a file's place. A new file is its owner's alone; an old one keeps its mode. Raises OSError."""
    import os
    import shutil
    import tempfile

    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            shutil.copymode(path, name)
        os.replace(name, path)
    except OSError:
        os.unlink(name)
        raise
