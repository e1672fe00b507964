"""The reference of the configuration file, written from the models themselves: `python -m gateway.reference`."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.config import Config, inner_section

INTRODUCTION = """# The configuration file

One YAML file. Unknown keys are errors. `${NAME}` and `${NAME:-default}` come from the environment. `pointsman check FILE` validates it.
This page is written by `make docs` from the models in `gateway/sections/`; a test holds the two together.
"""


def text() -> str:
    """The whole page, in Markdown."""
    return INTRODUCTION + "".join(f"\n{part}" for part in _sections(Config, "The whole file", ""))


def _sections(section: type[BaseModel], title: str, path: str) -> Iterator[str]:
    rows = ["| key | type | default | is |", "|---|---|---|---|"]
    below: list[tuple[type[BaseModel], str, str]] = []
    for name, field in section.model_fields.items():
        inner = inner_section(field.annotation)
        where = f"{path}.{name}".lstrip(".")
        if inner is not None:
            several = "list[" in str(field.annotation)
            where = f"{where}[]" if several else where
            if inner is not section and not any(inner is known for known, _, _ in below):
                below.append((inner, (inner.__doc__ or "").split("\n")[0], where))
        rows.append(f"| `{name}` | {_type(field, inner)} | {_default(field)} | {field.description or ''} |")
    yield f"## {title}{f' (`{path}`)' if path else ''}\n\n" + "\n".join(rows) + "\n"
    for inner, summary, where in below:
        yield from _sections(inner, summary.rstrip("."), where)


def _type(field: FieldInfo, inner: type[BaseModel] | None) -> str:
    shown = str(field.annotation)
    if inner is not None:
        return "list of sections" if "list[" in shown else "section"
    for kind, word in (("Literal", "one of a list"), ("list", "list"), ("SecretStr", "text"), ("str", "text"), ("int", "whole number")):
        if kind in shown:
            return "list of words" if kind == "Literal" and "list[" in shown else word
    return "number"


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, BaseModel) or field.default is None or field.default == []:
        return "–"
    if isinstance(field.default, list):
        return ", ".join(f"`{item}`" for item in field.default)
    return f"`{field.default}`"


if __name__ == "__main__":
    print(text(), end="")
