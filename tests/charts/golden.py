"""What the values files have made so far, to see what a change of the chart changes: `python -m tests.charts.golden --update`."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import yaml

from tests.charts.rendering import VALUES_FILES, Object, Rendered, render_file

FOLDER = Path(__file__).resolve().parent / "golden"


def text(rendered: Rendered) -> str:
    """A release as one document. What comes from deploy/ is named, not shown: it has tests of its own."""
    shown = [yaml.safe_dump(_brief(one), sort_keys=False, width=140, allow_unicode=True) for one in rendered.objects]
    notes = yaml.safe_dump({"notes": rendered.notes.splitlines()}, width=140, allow_unicode=True)
    return "---\n".join([notes, *shown])


def _brief(found: Object) -> Object:
    if found["kind"] == "PrometheusRule":
        return {**found, "spec": {"groups": [group["name"] for group in found["spec"]["groups"]]}}
    if found["metadata"]["name"].endswith("-dashboards"):
        return {**found, "data": sorted(found["data"])}
    return found


def path(name: str) -> Path:
    return FOLDER / f"{name}.yaml"


def difference(name: str) -> str:
    """What is otherwise than it was, as a diff; empty if nothing is."""
    kept = path(name).read_text(encoding="utf-8") if path(name).is_file() else ""
    lines = difflib.unified_diff(kept.splitlines(), text(render_file(name)).splitlines(), "golden", "chart", lineterm="", n=4)
    return "\n".join(lines)


def main() -> int:
    """Prints the differences, or with `--update` keeps what the chart makes now. Returns the exit code."""
    update, found = "--update" in sys.argv[1:], 0
    for name in VALUES_FILES:
        changed = difference(name)
        if changed and update:
            FOLDER.mkdir(exist_ok=True)
            path(name).write_text(text(render_file(name)), encoding="utf-8")
        elif changed:
            print(changed)
            found = 1
    return found


if __name__ == "__main__":
    sys.exit(main())
