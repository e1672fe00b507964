"""Finds plugins by entry point and builds them; the keyword parameters of a plugin's constructor are its configuration."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import UnionType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from routers.api import Filter, Picker, Planner, Scorer
from routers.judges.api import Judge

Kind = Literal["filters", "scorers", "pickers", "planners", "judges"]
KINDS: tuple[Kind, ...] = ("filters", "scorers", "pickers", "planners", "judges")
_PROTOCOLS: Mapping[object, Kind] = {Filter: "filters", Scorer: "scorers", Picker: "pickers", Planner: "planners", Judge: "judges"}


class BadPlugin(Exception):
    """A plugin that is unknown, cannot be loaded, or was given the wrong parameters. `path`: which parameter, () for the plugin."""

    def __init__(self, kind: Kind, name: str, path: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name
        self.path = path
        self.message = message


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a plugin. `default` is None both for "no default" and for a default of None; `required` tells them apart."""

    name: str
    type: str
    default: object
    required: bool


@dataclass(frozen=True, slots=True)
class Description:
    """A plugin as `pointsman plugins` lists it. `problem`: why it cannot be loaded, None if it can."""

    kind: Kind
    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    source: str
    problem: str | None = None


class Registry:
    """All plugins that are installed. `extra`: (kind, name) -> class, added to what the entry points name."""

    def __init__(self, extra: Mapping[tuple[Kind, str], type] | None = None) -> None:
        self._extra = dict(extra or {})
        self._points: dict[Kind, dict[str, EntryPoint]] = {}
        for kind in KINDS:
            self._points[kind] = {point.name: point for point in entry_points(group=f"pointsman.{kind}")}

    def names(self, kind: Kind) -> list[str]:
        return sorted({*self._points[kind], *(name for extra, name in self._extra if extra == kind)})

    def build(self, kind: Kind, name: str, options: Mapping[str, object]) -> Any:
        """A plugin made from its configuration. Raises BadPlugin.

        A parameter that is itself a plugin (its type is Filter, Scorer, Picker, Planner or Judge) is configured like one: {type: …, …}.
        """
        plugin = self._load(kind, name)
        hints = {parameter: hint for parameter, hint in _hints(plugin).items() if parameter in options}
        given = {parameter: hint for parameter, hint in hints.items() if options[parameter] is not None or not isinstance(hint, UnionType)}
        inner = {parameter: of for parameter, hint in given.items() if (of := _plugin_kind(hint)) is not None}
        parts = {parameter: self._part(kind, name, parameter, of, options[parameter]) for parameter, of in inner.items()}
        try:
            values = _parameters_model(plugin).model_validate({**options, **parts})
        except ValidationError as error:
            raise _explain(kind, name, plugin, error) from None
        try:
            return plugin(**{field: getattr(values, field) for field in values.model_fields_set})
        except ImportError as error:
            raise BadPlugin(kind, name, (), _missing_extra(name, error)) from None
        except (ValueError, OSError) as error:
            raise BadPlugin(kind, name, getattr(error, "path", ()), str(error)) from error

    def _part(self, kind: Kind, name: str, parameter: str, of: Kind, value: object) -> Any:
        """A plugin that is a parameter of another one. Raises BadPlugin with the path from the outer one."""
        if not isinstance(value, Mapping) or not isinstance(value.get("type"), str):
            raise BadPlugin(kind, name, (parameter,), f"must be a {of.removesuffix('s')}: {{type: …}} with its parameters beside it")
        try:
            return self.build(of, value["type"], {key: option for key, option in value.items() if key != "type"})
        except BadPlugin as bad:
            raise BadPlugin(kind, name, (parameter, *(bad.path or ("type",))), bad.message) from None

    def describe(self) -> list[Description]:
        """Every plugin, by kind and name."""
        return [self._describe(kind, name) for kind in KINDS for name in self.names(kind)]

    def _load(self, kind: Kind, name: str) -> type:
        if (kind, name) in self._extra:
            return self._extra[kind, name]
        point = self._points[kind].get(name)
        if point is None:
            known = self.names(kind)
            raise BadPlugin(kind, name, (), f"no {kind.removesuffix('s')} named {name!r}{nearest(name, known)}; known: {', '.join(known)}")
        try:
            loaded: type = point.load()
        except ImportError as error:
            raise BadPlugin(kind, name, (), _missing_extra(name, error)) from None
        except AttributeError as error:
            raise BadPlugin(kind, name, (), f"{name!r} cannot be loaded: {error}") from None
        return loaded

    def _describe(self, kind: Kind, name: str) -> Description:
        point = self._points[kind].get(name)
        source = point.dist.name if point is not None and point.dist is not None else "this process"
        try:
            plugin = self._load(kind, name)
        except BadPlugin as bad:
            return Description(kind, name, "", (), source, bad.message)
        summary = (inspect.getdoc(plugin) or "").partition("\n\n")[0].replace("\n", " ")
        return Description(kind, name, summary, tuple(_parameters(plugin)), source)


def _parameters(plugin: type) -> list[Parameter]:
    found = []
    hints = _hints(plugin)
    for parameter in inspect.signature(plugin).parameters.values():
        required = parameter.default is inspect.Parameter.empty
        hint = hints.get(parameter.name, object)
        shown = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
        found.append(Parameter(parameter.name, shown, None if required else parameter.default, required))
    return found


def _hints(plugin: type, include_extras: bool = False) -> dict[str, Any]:
    constructor = inspect.getattr_static(plugin, "__init__")
    return typing.get_type_hints(constructor, include_extras=include_extras) if inspect.isfunction(constructor) else {}


def _plugin_kind(hint: object) -> Kind | None:
    """Of a parameter that is a plugin, or that may be one ("Judge | None")."""
    parts = [part for part in typing.get_args(hint) if part is not type(None)] if isinstance(hint, UnionType) else [hint]
    return _PROTOCOLS.get(parts[0]) if len(parts) == 1 and isinstance(parts[0], type) else None


def _parameters_model(plugin: type) -> type[BaseModel]:
    hints = _hints(plugin, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(plugin).parameters.values():
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        hint = hints.get(parameter.name, object)
        fields[parameter.name] = (hint if _plugin_kind(hint) is None else Any, default)
    return create_model(plugin.__name__, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **fields)


def _explain(kind: Kind, name: str, plugin: type, error: ValidationError) -> BadPlugin:
    first = error.errors()[0]
    path = tuple(first["loc"])
    if first["type"] == "extra_forbidden" and len(path) == 1:
        known = [parameter.name for parameter in _parameters(plugin)]
        takes = f"{name!r} takes {', '.join(known)}" if known else f"{name!r} takes no parameters"
        return BadPlugin(kind, name, path, f"unknown parameter{nearest(str(path[0]), known)}; {takes}")
    message = "is required" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
    return BadPlugin(kind, name, path, message[0].lower() + message[1:])


def nearest(word: str, known: list[str]) -> str:
    """ ", did you mean 'x'?" if one of the known words is close, else nothing."""
    close = difflib.get_close_matches(word, known, 1)
    return f", did you mean {close[0]!r}?" if close else ""


def _missing_extra(name: str, error: ImportError) -> str:
    missing = error.name or "a package"
    return f"{name!r} needs {missing}, which is not installed; pip install 'pointsman[embed]' brings what the built-in plugins need"
