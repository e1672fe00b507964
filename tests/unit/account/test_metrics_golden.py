"""The metrics are part of the contract: a name, a label or a meaning changes only when somebody means it to."""

from __future__ import annotations

import re
from pathlib import Path

from tests.metric_families import families, golden

ROOT = Path(__file__).resolve().parent.parent.parent.parent
GOLDEN = Path(__file__).with_name("metrics.golden")


def test_names_labels_types_and_help_are_those_of_the_golden_file() -> None:
    command = f"python -m tests.metric_families > {GOLDEN.relative_to(ROOT)}"
    assert golden() == GOLDEN.read_text(encoding="utf-8"), f"if the change is meant: {command}; and docs/operations.md"


def test_the_page_on_operations_lists_every_metric_with_its_labels() -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(pointsman_[a-z_]+)(\{[a-z,]+\})?` \|", page, re.MULTILINE))
    exist = dict(re.findall(r"^(pointsman_[a-z_]+)(\{[a-z,]*\})", golden(), re.MULTILINE))
    assert {name: labels or "{}" for name, labels in listed.items()} == exist


def test_help_says_something_and_names_follow_prometheus() -> None:
    for family in families():
        assert family.help, family.name
        assert re.fullmatch(r"pointsman_[a-z0-9_]+", family.name)
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket")), family.name
