"""Sections of several kinds, told apart by their `type`: where pydantic's errors about them belong, in words for the file's author."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.source import Key
from routers.registry import nearest


def inner_sections(annotation: object) -> Iterator[type[BaseModel]]:
    """The sections that a field may hold, alone, in a list, or one of several kinds; none for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from inner_sections(part)


def locate(root: type[BaseModel], loc: tuple[Key, ...]) -> tuple[tuple[Key, ...], type[BaseModel]]:
    """The path in the file that an error's `loc` means, and the innermost section on the way to its last key.

    pydantic puts the kind of a section into the path, where the file has no such place.
    """
    path: list[Key] = []
    section = root
    kinds: dict[Key, type[BaseModel]] = {}
    for index, key in enumerate(loc):
        if key in kinds:
            section, kinds = kinds[key], {}
            continue
        path.append(key)
        if index == len(loc) - 1 or not isinstance(key, str) or key not in section.model_fields:
            continue
        inner = list(inner_sections(section.model_fields[key].annotation))
        if len(inner) == 1:
            section = inner[0]
        kinds = {kind: one for one in inner for kind in kinds_of(one)} if len(inner) > 1 else {}
    return tuple(path), section


def kinds_of(section: type[BaseModel]) -> tuple[str, ...]:
    """The values of `type` that make a section this one."""
    field: FieldInfo | None = section.model_fields.get("type")
    return tuple(value for value in get_args(field.annotation) if isinstance(value, str)) if field is not None else ()


def wrong_kind(detail: Mapping[str, Any], path: tuple[Key, ...]) -> tuple[tuple[Key, ...], str] | None:
    """Where and what, of an error about the `type` of a section at `path`; None for any other error."""
    if detail["type"] == "union_tag_not_found":
        return (*path, "type"), "is required"
    if detail["type"] != "union_tag_invalid":
        return None
    tag, known = str(detail["ctx"]["tag"]), re.findall(r"'([^']*)'", str(detail["ctx"]["expected_tags"]))
    what = next((key for key in reversed(path) if isinstance(key, str)), "section")
    return (*path, "type"), f"no {what} of type {tag!r}{nearest(tag, known)}; known: {', '.join(known)}"
