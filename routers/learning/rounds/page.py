"""What planners were worth, as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routers.learning.report import report

Setting = Mapping[str, Any]


def page(found: Mapping[str, Any], unseen: bool = True) -> str:
    """The report of a block of `routers.learning.rounds.evaluate.evaluate`. `unseen`: whether the questions were kept from the planners
    when they were fitted.
    """
    routers = {name: _told(one) for name, one in {**found["planners"], **found["references"]}.items()}
    return report({**found, "routers": routers}, "Whom to ask, and when to stop?", unseen)


def _told(one: Mapping[str, Any]) -> dict[str, Any]:
    return {**one, "curve": [[cost, accuracy, _configuration(setting)] for cost, accuracy, setting in one["curve"]]}


def _configuration(setting: Setting) -> str | None:
    """What sets a corner of the frontier, in words; None: always the cheapest model."""
    if "order" in setting:
        order = ", ".join(setting["order"])
        if len(setting["order"]) < 2 or setting["threshold"] > 1:
            return f"# asks {order}" + (", all of them" if len(setting["order"]) > 1 else ", and nobody else")
        return f"# asks {order}; stops at threshold: {setting['threshold']:g}"
    price = setting.get("weight", setting.get("price"))
    return None if price is None else f"# asks on while an answer's chance rises by {price:.3g} for what the best single model costs"
