"""What the documents say is what the code does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gateway.config import validate
from gateway.errors import STATUS
from gateway.policies import build_routes
from gateway.reference import text
from gateway.source import parse
from routers.api import Candidate, Model, RouteRequest
from routers.registry import Registry

ROOT = Path(__file__).resolve().parent.parent.parent


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)


def test_the_reference_of_the_configuration_is_up_to_date() -> None:
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == text(), "run `make docs`"


def test_the_configuration_in_the_readme_is_good() -> None:
    source = parse(blocks("README.md", "yaml")[0], "README.md", {})
    assert set(build_routes(validate(source), Registry(), source)) == {"auto"}


def test_the_example_scorer_works_as_a_plugin() -> None:
    space: dict[str, Any] = {}
    exec(blocks("CONTRIBUTING.md", "python")[0], space)  # the page's own code, run as a reader would
    section = yaml.safe_load(blocks("CONTRIBUTING.md", "yaml")[0])["policy"]["scorers"][0]
    options = {key: value for key, value in section.items() if key not in ("type", "weight")}
    scorer = Registry({("scorers", section["type"]): space["ShortAnswers"]}).build("scorers", section["type"], options)
    candidates: Sequence[Candidate] = [Candidate(Model("a"), answer_tokens=100.0), Candidate(Model("b"))]
    assert scorer.score(RouteRequest(), candidates) == {"a": 0.5}


def test_every_error_code_is_documented() -> None:
    page = (ROOT / "docs/http.md").read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "gateway").rglob("*.py")]
    raised = {code for source in sources for code in re.findall(r"GatewayError\(\s*\"([a-z_]+)\"", source)}
    assert raised <= set(STATUS)
    assert {code for code in raised if f"`{code}`" not in page} == set()


def test_every_scorer_is_in_the_table_of_plugins() -> None:
    page = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    assert [name for name in Registry().names("scorers") if f"| `{name}` |" not in page] == []


def test_every_picker_is_in_the_table_of_plugins() -> None:
    page = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    assert [name for name in Registry().names("pickers") if f"| `{name}` |" not in page] == []
