"""From the routes of a configuration to policies that can decide."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.config import Config
from gateway.flow.decide import Route
from gateway.parts import Parts
from gateway.sections.routes import PluginSection, RouteSection
from gateway.source import ConfigError, Key, Problem, Source
from routers.api import Encoder
from routers.pipeline import Policy, Weighted
from routers.planners.plain import BadPlan
from routers.registry import BadPlugin, Kind, Registry

DEFAULT_FILTERS = ("allow_list", "capability", "context_window", "max_cost", "budget", "health")
ALWAYS = ("allow_list", "budget")
"""Filters that hold a caller to what it may do: no policy goes without them."""


def build_routes(config: Config, registry: Registry, source: Source | None = None, parts: Parts | None = None) -> dict[str, Route]:
    """All routes by name. Raises ConfigError with every plugin that cannot be built; `source` gives their lines.

    `parts`: plugins whose options and files are those of before are taken over, with what they have learned.
    """
    builder = _Builder(config, registry, source or Source("configuration", None), parts or Parts())
    routes = {section.name: builder.route(index, section) for index, section in enumerate(config.routes)}
    if builder.problems:
        raise ConfigError(builder.source.file, builder.problems)
    return {name: route for name, route in routes.items() if route is not None}


class _Builder:
    """Builds policies and collects what is wrong with them."""

    def __init__(self, config: Config, registry: Registry, source: Source, parts: Parts) -> None:
        self._config = config
        self._registry = registry
        self._parts = parts
        self.source = source
        self.problems: list[Problem] = []
        self._learned: set[Path] = set()

    def route(self, index: int, section: RouteSection) -> Route | None:
        before = len(self.problems)
        place: tuple[Key, ...] = ("routes", index, "policy")
        policy = section.policy
        filters = policy.filters if policy.filters is not None else [PluginSection(type=name) for name in DEFAULT_FILTERS]
        named = {section.type for section in filters}
        filters = [*(PluginSection(type=name) for name in ALWAYS if name not in named), *filters]
        of = section.name
        built_filters = [(f.type, self._plugin(of, "filters", f, (*place, "filters", n))) for n, f in enumerate(filters)]
        scorers = [self._plugin(of, "scorers", s, (*place, "scorers", n)) for n, s in enumerate(policy.scorers)]
        self._check_learners(scorers, (*place, "scorers"))
        picker = self._plugin(of, "pickers", policy.picker, (*place, "picker"))
        planner = self._plugin(of, "planners", policy.planner, (*place, "planner"))
        self._check_planner(planner, section, (*place, "planner"))
        if len(self.problems) > before:
            return None
        names = _unique([s.type for s in policy.scorers])
        weighted = [Weighted(name, plugin, s.weight) for name, plugin, s in zip(names, scorers, policy.scorers, strict=True)]
        encoder = self._encoder(scorers, (*place, "scorers"))
        title = "+".join(names) or "none"
        built = Policy(
            f"{title}/{policy.picker.type}/{policy.planner.type}",
            built_filters,
            weighted,
            picker,
            planner,
            section.default or section.models[0],
            encoder,
        )
        fingerprint = self._fingerprint(section, built)
        return Route(section.name, tuple(section.models), built, section.decision_deadline_ms / 1000, section.text_cap, fingerprint)

    def _fingerprint(self, section: RouteSection, policy: Policy) -> str:
        """Of the route, of what routers know of its models, and of the artifacts: 16 hex digits."""
        known = {"price", "context_window", "capabilities", "description", "name"}
        models = [m.model_dump_json(include=known) for m in self._config.models if m.name in section.models]
        parts = (section.model_dump_json(), *models, *policy.artifacts)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def _plugin(self, route: str, kind: Kind, section: PluginSection, place: tuple[Key, ...]) -> Any:
        options = section.options
        name = ("plugin", route, kind, section.type, repr(options))
        try:
            return self._parts.get(name, _stamps(options), lambda: self._registry.build(kind, section.type, options))
        except BadPlugin as bad:
            self.problems.append(self.source.problem((*place, *bad.path) if bad.path else (*place, "type"), bad.message))
            return None

    def _check_planner(self, planner: Any, section: RouteSection, place: tuple[Key, ...]) -> None:
        """A planner that wants something of its route says whether it is there."""
        check = getattr(planner, "check", None)
        if check is None:
            return
        try:
            check(section.models, [model.name for model in self._config.models])
        except BadPlan as bad:
            self.problems.append(self.source.problem((*place, *bad.path), str(bad)))

    def _check_learners(self, scorers: Sequence[Any], place: tuple[Key, ...]) -> None:
        """Two that learn into the same artifact would undo each other's versions."""
        for number, scorer in enumerate(scorers):
            folder = getattr(scorer, "learns_into", None)
            if folder in self._learned:
                message = f"another scorer learns into {folder} already; give each a copy of its own"
                self.problems.append(self.source.problem((*place, number, "artifact"), message))
            elif folder is not None:
                self._learned.add(folder)

    def _encoder(self, scorers: Sequence[Any], place: tuple[Key, ...]) -> Encoder | None:
        """The one encoder whose vectors the scorers read."""
        encoders = {encoder.hash: encoder for scorer in scorers if (encoder := getattr(scorer, "encoder", None)) is not None}
        if len(encoders) > 1:
            names = ", ".join(encoder.name for encoder in encoders.values())
            self.problems.append(self.source.problem(place, f"the scorers of a route must share one encoder; here are {names}"))
        return next(iter(encoders.values()), None)


def _stamps(options: Mapping[str, object]) -> tuple[object, ...]:
    """What tells whether the files that a plugin's options name are still those that it was built from."""
    learns = options.get("learn_per_hour") is not None  # then it follows the versions of its artifact by itself
    return tuple(stamp for text in _texts(options) for stamp in _stamp(text, not learns))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def _stamp(text: str, versions: bool) -> Iterator[object]:
    """Of an artifact its manifest, and which version of it serves; of any other file its look."""
    if os.path.isdir(text):
        manifest, serving = Path(text, "manifest.json"), Path(f"{text.rstrip('/')}.versions", "serving.json")
        for file in (manifest, serving) if versions else (manifest,):
            yield file.read_bytes() if file.is_file() else b""
    elif os.path.isfile(text):
        found = os.stat(text)
        yield found.st_mtime_ns, found.st_size, found.st_ino


def _unique(names: Sequence[str]) -> list[str]:
    """Two scorers of one type get names of their own: knn, knn-2."""
    return [name if name not in names[:index] else f"{name}-{names[: index + 1].count(name)}" for index, name in enumerate(names)]
