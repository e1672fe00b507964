"""A value that satisfies a JSON schema, for tool arguments and structured answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def example(schema: Any, root: Any = None, hint: str = "", depth: int = 0) -> Any:
    """The plainest value for a schema; strings take `hint` if there is one. Knows what structured outputs commonly use."""
    root = schema if root is None else root
    if not isinstance(schema, Mapping) or depth > 16:
        return hint or "text"
    if "$ref" in schema:
        return example(_resolve(root, str(schema["$ref"])), root, hint, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several):
            return example(schema[several][0], root, hint, depth + 1)
    return _by_type(schema, root, hint, depth)


def _by_type(schema: Mapping[str, Any], root: Any, hint: str, depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties") or {}
        return {name: example(properties[name], root, hint, depth + 1) for name in properties}
    if kind == "array":
        count = max(1, int(schema.get("minItems", 1)))
        return [example(schema.get("items", {}), root, hint, depth + 1) for _ in range(count)]
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        return int(low) + (1 if "exclusiveMinimum" in schema else 0)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    return _text(schema, hint)


def _text(schema: Mapping[str, Any], hint: str) -> str:
    text = hint or "text"
    text = text.ljust(int(schema.get("minLength", 0)), ".")
    return text[: int(schema.get("maxLength", len(text)))]


def _resolve(root: Any, reference: str) -> Any:
    found = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part, {}) if isinstance(found, Mapping) else {}
    return found
