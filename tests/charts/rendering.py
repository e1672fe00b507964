"""The chart with some values, as Helm makes it. Without Helm's engine every test that needs it is skipped."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

helm = pytest.importorskip("helm_python", reason="needs Helm's engine: pip install helm-python-sdk")

ROOT = Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "helm" / "pointsman"
VALUES_FILES = ("minimal", "fake", "production", "gpu")
Object = dict[str, Any]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Rendered:
    """The objects of a release in the order of their templates, and what Helm prints after it."""

    objects: tuple[Object, ...]
    notes: str

    def of(self, *kinds: str) -> list[Object]:
        return [one for one in self.objects if one["kind"] in kinds]

    def one(self, kind: str, name: str = "pointsman") -> Object:
        found = [one for one in self.of(kind) if one["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} {kind} named {name}"
        return found[0]

    @property
    def gateway_yaml(self) -> str:
        texts: list[str] = [one["data"]["gateway.yaml"] for one in self.of("ConfigMap") if "gateway.yaml" in one["data"]]
        assert len(texts) == 1
        return texts[0]

    def pods(self) -> Iterator[tuple[Object, Object]]:
        """Every pod, or what pods are made from: the object, and metadata and spec of the pod."""
        for one in self.objects:
            if one["kind"] == "Pod":
                yield one, one
            elif "template" in one.get("spec", {}):
                yield one, one["spec"]["template"]

    def containers(self) -> Iterator[Object]:
        for _, pod in self.pods():
            yield from pod["spec"]["containers"]


def values(name: str) -> Object:
    """What a values file beside the chart says."""
    found: Object = helm.values_from_yaml((CHART / f"values-{name}.yaml").read_text(encoding="utf-8"))
    return found


def with_changes(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Object:
    """Two values files one after the other: maps are merged, everything else is replaced."""
    made = copy.deepcopy(dict(base))
    for key, value in changes.items():
        made[key] = with_changes(made[key], value) if isinstance(value, Mapping) and isinstance(made.get(key), Mapping) else value
    return made


@cache
def loaded() -> Any:
    """The chart, read once: it does not change while tests run."""
    return helm.Chart.load(CHART)


def render(given: Mapping[str, Any], name: str = "pointsman", namespace: str = "llm") -> Rendered:
    """Raises HelmError: HelmValuesError if the schema does not allow a value, HelmRenderError if a template refuses it."""
    templates = loaded().render(dict(given), name=name, namespace=namespace)
    notes = next((text for path, text in templates.items() if path.endswith("NOTES.txt")), "")
    texts = [text for path, text in sorted(templates.items()) if not path.endswith("NOTES.txt")]
    return Rendered(tuple(found for text in texts for found in yaml.load_all(text, LOADER) if found), notes)


def render_file(name: str) -> Rendered:
    return render(values(name))


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether `matchLabels` hold."""
    return all(labels.get(key) == value for key, value in selector.items())
