"""Makes what in helm/pointsman is made from something else: `make chart`. With `--check` it only says what is not up to date.

| file | from |
|---|---|
| values.yaml, values.schema.json | helm/values.source.yaml, and the sections of the gateway's own configuration |
| README.md | helm/readme.source.md, and the same |
| files/ | deploy/prometheus and deploy/grafana: a chart cannot read what lies outside of it |
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from gateway.config import Config
from gateway.guard.keys import KeysSection

ROOT = Path(__file__).resolve().parent.parent
HELM = ROOT / "helm"
CHART = HELM / "pointsman"
COPIES = {"prometheus": ("deploy/prometheus", ("rules.yaml", "alerts.yaml")), "dashboards": ("deploy/grafana/dashboards", ("*.json",))}
SET_BY_THE_CHART = ("name", "served_as", "backends", "discovery", "api_key")
AS_IN_KUBERNETES = ("resources", "secretKey", "optionalSecretKey", "tolerations", "peers")
VARIABLE = r"\$\{"
WIDTH = 118
WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "yes or no", "array": "list", "object": "map"}
Node = dict[str, Any]


def main() -> int:
    """Returns the exit code: 1 if `--check` was given and something is not up to date."""
    wanted = dict(documents())
    strange = {path for path in (CHART / "files").rglob("*") if path.is_file()} - set(wanted)
    stale = sorted([path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text] + [*strange])
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not up to date: run `make chart`", file=sys.stderr)
        return int(bool(stale))
    for path in stale:
        if path in strange:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
    return 0


def documents() -> Iterator[tuple[Path, str]]:
    """Every file that is made, and what should be in it."""
    source = yaml.safe_load((HELM / "values.source.yaml").read_text(encoding="utf-8"))
    yield CHART / "values.yaml", values_text(source)
    yield CHART / "values.schema.json", json.dumps(schema(source), indent=1, ensure_ascii=False) + "\n"
    yield CHART / "README.md", (HELM / "readme.source.md").read_text(encoding="utf-8") + readme_tables(source)
    for folder, (origin, patterns) in COPIES.items():
        for pattern in patterns:
            for path in sorted((ROOT / origin).glob(pattern)):
                yield CHART / "files" / folder / path.name, path.read_text(encoding="utf-8")


def schema(source: Node) -> Node:
    """The JSON Schema of values.yaml: closed, without defaults, with the definitions that it uses."""
    definitions = {**source["$defs"], **gateway_sections()}
    root = _closed({"properties": {**source["properties"], "global": {"type": "object"}}})
    found = {name: _closed(node) for name, node in definitions.items()}
    used: set[str] = set()
    waiting = [root]
    while waiting:
        fresh = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(waiting.pop()))) - used
        used |= fresh
        waiting += [found[name] for name in fresh]
    defs = {name: found[name] for name in sorted(used)}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the Pointsman chart", **root, "$defs": defs}


def _closed(node: Any) -> Any:
    """A schema in which every object with named keys takes no others, and `gateway#Name` is found."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _closed(value) for key, value in node.items() if key != "default"}
    if isinstance(made.get("$ref"), str):
        made["$ref"] = made["$ref"].replace("gateway#", "#/$defs/")
    if "properties" in made and isinstance(node["properties"], dict):
        # A key may be called `default` or `properties` itself, so the keys are gone through here, not above.
        made["properties"] = {key: _closed(value) for key, value in node["properties"].items()}
        made = {"type": "object", "additionalProperties": False, **made}
    return made


def gateway_sections() -> dict[str, Node]:
    """The sections of the gateway's configuration and of its keys file, as JSON Schemas by name."""
    config, keys = Config.model_json_schema(), KeysSection.model_json_schema()
    sections: dict[str, Node] = {**config.pop("$defs"), **keys.pop("$defs"), "Config": config}
    sections["Config"].pop("required")
    sections["Config"]["properties"]["models"].pop("minItems")  # they may come from `experts`
    model = sections["ModelSection"]
    properties = {key: value for key, value in model["properties"].items() if key not in SET_BY_THE_CHART}
    sections["ExpertModel"] = {**model, "properties": properties, "required": []}
    return {name: _plain(section) for name, section in sections.items()}


def _plain(node: Any) -> Any:
    """pydantic's schema in words that Helm's errors show well: no `anyOf` where a list of types will do, variables where numbers may be."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "discriminator" in node:
        return _by_type(node)
    made = {key: _plain(value) for key, value in node.items() if key not in ("title", "default", "format", "writeOnly", "discriminator")}
    if "properties" in node:
        made["properties"] = {key: _plain(value) for key, value in node["properties"].items()}
    if "anyOf" in made:
        made = _merged(made)
    return _variable(made)


def _by_type(node: Node) -> Node:
    """One of several sections, told apart by `type`: so an error is about the one that was meant."""
    mapping: Mapping[str, str] = node["discriminator"]["mapping"]
    open_section: Node = {"type": "object", "required": ["type"], "additionalProperties": True}
    cases = [{"if": {**open_section, "properties": {"type": {"const": kind}}}, "then": {"$ref": ref}} for kind, ref in mapping.items()]
    kinds = {**open_section, "properties": {"type": {"enum": list(mapping)}}}
    return {"allOf": [kinds, *cases], **({"description": node["description"]} if "description" in node else {})}


def _merged(node: Node) -> Node:
    """`anyOf` of plain types as a list of types; one section or null as that section, since Helm takes nulls away."""
    options = [option for option in node.pop("anyOf") if option != {"type": "null"}]
    if len(options) == 1:
        return {**node, **options[0]} if "$ref" not in options[0] else {**options[0], **node}
    types = [kind for option in options for kind in ([option["type"]] if isinstance(option["type"], str) else option["type"])]
    rest = {key: value for option in options for key, value in option.items() if key not in ("type", "const", "pattern")}
    return {**node, **rest, "type": sorted(set(types))}


def _variable(node: Node) -> Node:
    """Whatever is no text may be a `${NAME}` of the environment instead."""
    kinds = node.get("type")
    if isinstance(kinds, str) and kinds in ("number", "integer", "boolean"):
        return {**node, "type": [kinds, "string"], "pattern": VARIABLE}
    if kinds == "string" and "enum" in node:
        return {key: value for key, value in node.items() if key != "enum"} | {"pattern": f"^({'|'.join(node['enum'])})$|{VARIABLE}"}
    if kinds == "string" and "pattern" in node:
        return {**node, "pattern": f"{node['pattern']}|{VARIABLE}"}
    if kinds == "string" and "const" not in node:
        return {**node, "type": ["string", "null"]}
    return node


def values_text(source: Node) -> str:
    """values.yaml: the defaults, with what each is above it."""
    head = "# Made by `make chart` from helm/values.source.yaml. README.md lists every key, those without a default too.\n"
    return head + "".join(_values(source["properties"], 0))


def _values(properties: Mapping[str, Node], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, node in properties.items():
        below = "".join(_values(node.get("properties", {}), depth + 1))
        if not below and "default" not in node:
            continue
        yield "\n" if depth == 0 else ""
        yield "".join(
            f"{indent}# {line}\n" for line in textwrap.wrap(node.get("description", ""), WIDTH - len(indent), break_on_hyphens=False)
        )
        if below:
            yield f"{indent}{name}:\n{below}"
            continue
        line = f"{name}: {_flow(node['default'])}"
        if len(line) + len(indent) <= WIDTH and not (depth == 0 and isinstance(node["default"], dict) and node["default"]):
            yield f"{indent}{line}\n"
        else:
            block = yaml.safe_dump({name: node["default"]}, sort_keys=False, allow_unicode=True, width=WIDTH * 2)
            yield textwrap.indent(block, indent)


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).removesuffix("\n").removesuffix("\n...")
    return text.replace("''", '""')


def readme_tables(source: Node) -> str:
    """A table of every key."""
    rows: list[str] = []
    for name, node in source["properties"].items():
        default = node.get("default") if name != "experts" else {"NAME": source["properties"]["expertDefaults"]["default"]}
        rows += _rows(name, node, default, source["$defs"])
    head = "| key | type | default | is |\n|---|---|---|---|\n"
    return head + "".join(f"{row}\n" for row in rows)


def _rows(path: str, node: Node, default: object, defs: Mapping[str, Node]) -> Iterator[str]:
    """The row of a key, and of those below it."""
    ref = str(node.get("$ref", "")).rpartition("/")[2]
    kind = node if ref not in defs else {**defs[ref], **node}
    if path == "expertDefaults":
        kind, default = {"description": node["description"]}, None
    elif path == "experts":
        own_keys = {**defs["expert"], "description": "one of them; the defaults are those of `expertDefaults`"}
        kind = {**node, "properties": {"NAME": own_keys}}
    own = "" if "properties" in kind and ref != "resources" else _shown(default)
    yield f"| `{path}` | {_word(kind)} | {own} | {_cell(kind.get('description', ''))} |"
    if ref in AS_IN_KUBERNETES:
        return
    given: Mapping[str, Any] = default if isinstance(default, dict) else {}
    for name, inner in kind.get("properties", {}).items():
        yield from _rows(f"{path}.{name}", inner, inner.get("default", given.get(name)), defs)
    items = kind.get("items", {})
    for name, inner in items.get("properties", {}).items():
        yield from _rows(f"{path}[].{name}", inner, None, defs)
    if path.endswith(".adapters"):
        for name, inner in kind["additionalProperties"]["properties"].items():
            yield from _rows(f"{path}.NAME.{name}", inner, None, defs)


def _word(node: Node) -> str:
    if str(node.get("$ref", "")).startswith("gateway#"):
        return "section of gateway.yaml"
    if "enum" in node:
        return "one of " + ", ".join(f"`{choice}`" for choice in node["enum"])
    kind = node.get("type", "object")
    kinds = [kind] if isinstance(kind, str) else kind
    return " or ".join(WORDS[one] for one in kinds if one != "null")


def _shown(default: object) -> str:
    if default is None or default in ("", [], {}):
        return ""
    return _cell(f"`{_flow(default)}`" if not isinstance(default, str) else f"`{default}`")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
