"""The reference of the configuration file, written from the models themselves: `python -m gateway.reference`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.config import Config
from gateway.sections.kinds import inner_sections, kinds_of

INTRODUCTION = """# The configuration file

One YAML file. Unknown keys are errors. `${NAME}` and `${NAME:-default}` come from the environment; where `NAME` is not set and `NAME_FILE`
is, from the file that it names, as secrets are mounted. `pointsman check FILE` validates it.
This page is written by `make docs` from the models in `gateway/sections/`; a test holds the two together.
"""


def text() -> str:
    """The whole page, in Markdown."""
    return INTRODUCTION + "".join(f"\n{part}" for part in _sections(Config, "The whole file", "", {Config}))


def _sections(section: type[BaseModel], title: str, path: str, shown: set[type[BaseModel]], kind: str = "") -> Iterator[str]:
    """A section and those below it. `shown`: sections that stand elsewhere on the page; each is shown once. `kind`: of several."""
    rows = ["| key | type | default | is |", "|---|---|---|---|"]
    below: list[tuple[type[BaseModel], str, str, str]] = []
    for name, field in section.model_fields.items():
        several = list(inner_sections(field.annotation))
        where = f"{path}.{name}".lstrip(".") + ("[]" if several and "list[" in str(field.annotation) else "")
        for inner in several:
            if inner not in shown:
                shown.add(inner)
                kinds = f", type {' or '.join(f'`{kind}`' for kind in kinds_of(inner))}" if len(several) > 1 else ""
                below.append((inner, (inner.__doc__ or "").split("\n")[0].rstrip("."), where, kinds))
        rows.append(f"| `{name}` | {_type(field, several)} | {_default(field)} | {field.description or ''} |")
    yield f"## {title}{f' (`{path}`{kind})' if path else ''}\n\n" + "\n".join(rows) + "\n"
    for inner, summary, where, kinds in below:
        yield from _sections(inner, summary, where, shown, kinds)


def _type(field: FieldInfo, inner: Sequence[type[BaseModel]]) -> str:
    shown = str(field.annotation)
    if inner:
        return "list of sections" if "list[" in shown else "section"
    for kind, word in (
        ("Literal", "one of a list"),
        ("dict", "map"),
        ("bool", "yes or no"),
        ("list", "list"),
        ("SecretStr", "text"),
        ("str", "text"),
        ("int", "whole number"),
    ):
        if kind in shown:
            return "list of words" if kind == "Literal" and "list[" in shown else word
    return "number"


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, BaseModel) or field.default is None or field.default in ([], {}):
        return "–"
    if isinstance(field.default, list) and any(isinstance(item, BaseModel) for item in field.default):
        return "–"
    if isinstance(field.default, list):
        return ", ".join(f"`{item}`" for item in field.default)
    return f"`{field.default}`"


if __name__ == "__main__":
    print(text(), end="")
