"""Writes the dashboards as JSON: `python -m deploy.grafana`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from deploy.grafana.backends import BACKENDS
from deploy.grafana.overview import OVERVIEW
from deploy.grafana.panels import document
from deploy.grafana.routing import ROUTING

FOLDER = Path(__file__).resolve().parent / "dashboards"


def texts() -> Mapping[str, str]:
    """File name -> what belongs in it."""
    dashboards = {"overview": OVERVIEW, "routing": ROUTING, "backends": BACKENDS}
    return {f"{name}.json": json.dumps(document(one), indent=2, sort_keys=True) + "\n" for name, one in dashboards.items()}


if __name__ == "__main__":
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
