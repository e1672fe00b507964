"""A YAML file with the place of every value, so that an error can name its line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Key = str | int
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it, as its wheels are: five times as fast, which a file of 100,000 keys feels."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `path`: YAML path such as `routes[0].models[1]`; `line`: from 1, None if there is no such place."""

    path: str
    line: int | None
    message: str


class ConfigError(Exception):
    """A configuration that cannot be used, with every problem that was found."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self.file = file
        self.problems = problems
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        return [f"{self.file}:{p.line or 1}: {p.path + ': ' if p.path else ''}{p.message}" for p in self.problems]


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed file: its value, and the line of every path in it."""

    file: str
    value: object
    places: Mapping[tuple[Key, ...], int] = field(default_factory=dict)

    def problem(self, path: tuple[Key, ...], message: str) -> Problem:
        """The line is that of the path, or of the nearest place around it that exists."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return Problem(dotted(path), self.places[path[:length]], message)
        return Problem(dotted(path), None, message)


def dotted(path: tuple[Key, ...]) -> str:
    """`("routes", 0, "models")` as `routes[0].models`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def load(path: Path, environment: Mapping[str, str]) -> Source:
    """Reads a YAML file; `${NAME}` and `${NAME:-default}` come from `environment`, as text. Where NAME is not set and NAME_FILE is, it is
    what stands in that file, less its last line break: so secrets come that are mounted as files. Raises ConfigError.
    """
    file = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(file, [Problem("", None, f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(file, [Problem("", None, f"is not UTF-8 (byte {error.start})")]) from None
    return parse(text, file, environment)


def parse(text: str, file: str, environment: Mapping[str, str]) -> Source:
    """As `load`, for a text."""
    nested = ConfigError(file, [Problem("", None, "is nested too deeply, or an alias leads back to itself")])
    try:
        node = _composed(text)
    except RecursionError:
        raise nested from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise ConfigError(file, [Problem("", line, f"not valid YAML: {error.problem or error.context}")]) from None
    except yaml.YAMLError as error:
        raise ConfigError(file, [Problem("", None, f"not valid YAML: {error}")]) from None
    walk = _Walk(environment)
    try:
        value = walk.value(node, ()) if node is not None else {}
    except RecursionError:
        raise nested from None
    source = Source(file, value, walk.places)
    if walk.problems:
        raise ConfigError(file, [source.problem(path, message) for path, message in walk.problems])
    return source


def _composed(text: str) -> yaml.Node | None:
    """Raises yaml.YAMLError, RecursionError. PyYAML's own reader tells better what is wrong, and where."""
    try:
        return yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError:
        return yaml.compose(text, Loader=yaml.SafeLoader)


class _Walk:
    """Turns YAML nodes into values and keeps where each one stands."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.places: dict[tuple[Key, ...], int] = {}
        self.problems: list[tuple[tuple[Key, ...], str]] = []
        self._environment = environment
        self._scalars = yaml.SafeLoader("")

    def value(self, node: yaml.Node, path: tuple[Key, ...]) -> object:
        self.places.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: tuple[Key, ...]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            place = (*path, key)
            if key in found:
                self.problems.append((place, "is given twice"))
                continue
            self.places[place] = key_node.start_mark.line + 1
            found[key] = self.value(value_node, place)
        return found

    def _scalar(self, node: yaml.Node, path: tuple[Key, ...]) -> object:
        if isinstance(node.value, str) and "${" in node.value:
            return _VARIABLE.sub(lambda match: self._variable(match, path), node.value)
        try:
            return self._scalars.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError):
            self.problems.append((path, f"cannot be read: {node.value!r}"))
            return None

    def _variable(self, match: re.Match[str], path: tuple[Key, ...]) -> str:
        name, default = match[1], match[2]
        known = len(self.problems)
        found = self._environment.get(name) or self._from_file(name, path) or default
        if found is None and len(self.problems) == known:
            self.problems.append((path, f"the environment variable {name} is not set; give it, or write ${{{name}:-default}}"))
        return found or ""

    def _from_file(self, name: str, path: tuple[Key, ...]) -> str | None:
        """What stands in the file that NAME_FILE names; None if there is no such variable, or no such file."""
        file = self._environment.get(f"{name}_FILE")
        if not file:
            return None
        try:
            text = Path(file).read_text(encoding="utf-8")
        except OSError as error:
            self.problems.append((path, f"{name}_FILE names {file}, which cannot be read: {error.strerror}"))
            return None
        except UnicodeDecodeError as error:
            self.problems.append((path, f"{name}_FILE names {file}, which is not UTF-8 (byte {error.start})"))
            return None
        return text.removesuffix("\n").removesuffix("\r")
