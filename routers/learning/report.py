"""An evaluation as one HTML page that needs nothing else: for those who pay for the models, with all figures for those who tune them."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routers.learning import report_tables as tables
from routers.learning.charts import Line, Point, calibration_plot, cost_quality
from routers.learning.report_tables import known, percent, usd

if TYPE_CHECKING:
    from routers.learning.report_tables import Block

WIDE, NARROW = (880, 460), (380, 400)
"""Sizes of the plot on a desk and on a telephone: the page shows the one that fits."""


def report(block: Block, title: str = "Which model should answer?", unseen: bool = True) -> str:
    """The page for a block of `routers.learning.evaluate.evaluate`. A router in it may hold `robustness` and `drift` besides; what is shown
    of planners is a block of the same shape (`routers.learning.rounds.page`), where a text stands for the weight of each corner.

    `unseen`: whether the questions were kept from the routers when they were fitted (test, not train). One self-contained file: nothing is
    loaded from elsewhere, and its content security policy lets only its own script and style run. Names may hold anything.
    """
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    names = sorted(block["routers"], key=lambda name: -block["routers"][name]["aiq"])
    parts = {
        "policy": _policy(template),
        "title": escape(title),
        "verdicts": "".join(_part(name, place, _verdict(block, name, unseen)) for place, name in enumerate(names)) or _nobody(block),
        "chooser": "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in names),
        "without": "" if names else "hidden",
        "plots": _plots(block, names),
        "key": "".join(f"<li>{escape(model['model'])}</li>" for model in block["models"]),
        "savings": tables.savings(block),
        "routers": tables.routers(block),
        "duels": tables.duels(block) if names else "",
        "models": tables.models(block) + tables.votes(block.get("votes", {})),
        "details": "".join(_part(name, place, _details(block["routers"][name])) for place, name in enumerate(names)),
        "queries": f"{block['queries']:,}",
        "data": _embedded(block, names),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _policy(template: str) -> str:
    """Lets the template's own script and style run, by their hashes, and nothing else."""

    def hashed(tag: str) -> str:
        found = re.search(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
        text = found[1] if found else ""
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    return f"default-src 'none'; script-src {hashed('script')}; style-src {hashed('style')}; base-uri 'none'; form-action 'none'"


def _embedded(block: Block, names: list[str]) -> str:
    """What the slider needs, as JSON that cannot end its element."""
    best = block["best_single"]
    data = {
        "best": {"model": best["model"], "cost": best["mean_cost_usd"], "accuracy": best["accuracy"]},
        "curves": {name: block["routers"][name]["curve"] for name in names},
    }
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def _part(name: str, place: int, content: str) -> str:
    """What belongs to one router: all but the best one's is hidden until it is chosen."""
    return f'<div data-router="{escape(name)}"{" hidden" if place else ""}>{content}</div>'


def _nobody(block: Block) -> str:
    best = block["best_single"]
    return (
        f'<p class="verdict">No router was judged. Always calling {escape(best["model"])} is right on {percent(best["accuracy"])} of '
        f"{block['queries']:,} questions, for {usd(best['mean_cost_usd'] * 1e6)} USD per million requests.</p>"
    )


def _verdict(block: Block, name: str, unseen: bool) -> str:
    """The first thing that a reader sees: what this router is good for, in words; and plainly so if it is good for nothing."""
    router, best = block["routers"][name], escape(block["best_single"]["model"])
    asked = f"On {block['queries']:,} questions" + (" it had never seen" if unseen else "")
    me = f"the router <b>{escape(name)}</b>"
    full = router["savings"]["100"]
    better = router["against"]["best_single"]
    sentences = []
    if _sure(full):
        sentences.append(f"{asked}, {me} answers as well as {best} for {_price(full)}: {_saved(full)}.")
    elif better["acc_max_95"][0] > 0:
        cost = router["acc_max_cost_usd"] / block["best_single"]["mean_cost_usd"] if block["best_single"]["mean_cost_usd"] > 0 else math.nan
        sentences.append(f"{asked}, {me} answers better than {best}, at {percent(cost)} of its price.")
    elif block["best_single"]["model"] == block["cheapest"]["model"]:
        sentences.append("No router beats the best single model here.")
        sentences.append(f"{best} is the cheapest model as well: always call it, there is nothing to save.")
        return f'<p class="verdict">{" ".join(sentences)}</p><p class="lead">{_reading(router)}</p>'
    else:
        nobody = not any(_beats(other) for other in block["routers"].values())
        sentences.append("No router beats the best single model here." if nobody else "This router does not beat the best single model.")
        sentences.append(f"{asked}, {me} saves nothing for certain if it has to answer as well as {best}{_how(full)}.")
    more = []
    if better["acc_max_95"][0] > 0:
        gain = (
            f"{better['acc_max'] * 100:.1f} points (95\u00a0%: {better['acc_max_95'][0] * 100:.1f} to {better['acc_max_95'][1] * 100:.1f})"
        )
        more.append(f"At its best it is right more often than {best}, by {gain}.")
    if not _sure(full):
        more += _for_less(router, best)
    more.append(_reading(router))
    return f'<p class="verdict">{" ".join(sentences)}</p><p class="lead">{" ".join(more)}</p>'


def _sure(saved: Block | None) -> bool:
    return saved is not None and known(saved["share_95"][0]) and saved["share_95"][0] > 0


def _beats(router: Block) -> bool:
    return _sure(router["savings"]["100"]) or router["against"]["best_single"]["acc_max_95"][0] > 0


def _price(saved: Block) -> str:
    return f"{(1 - saved['share']) * 100:.0f}\u00a0% of the price"


def _saved(saved: Block) -> str:
    low, high = saved["usd_per_million_95"]
    return f"<b>{usd(saved['usd_per_million'])} USD saved per million requests</b> (95\u00a0%: {usd(low)} to {usd(high)})"


def _how(full: Block | None) -> str:
    if full is None:
        return ": it never quite gets there"
    low, high = full["usd_per_million_95"]
    return f" ({usd(full['usd_per_million'])} USD per million requests; 95\u00a0%: {usd(low)} to {usd(high)})"


def _for_less(router: Block, best: str) -> list[str]:
    """What is to be had for a little less quality."""
    for key, saved in router["savings"].items():
        if key != "100" and _sure(saved):
            return [f"Whoever is content with {key}\u00a0% of the accuracy of {best} pays {_price(saved)}: {_saved(saved)}."]
    return ["Nor does it save anything for certain at 95\u00a0% of that accuracy."]


def _reading(router: Block) -> str:
    """Is it the reading of the question that helps, or would coins do?"""
    low, high = router["aiq_gain_over_zero_95"]
    gain = f"{tables.difference(router['aiq_gain_over_zero'])} AIQ, 95\u00a0%: {tables.difference(low)} to {tables.difference(high)}"
    if low > 0:
        return f"Reading the question helps: it does better than tossing coins between the models ({gain})."
    if high < 0:
        return f"Tossing coins between the models does better than this router ({gain})."
    return f"Tossing coins between the models, without reading the question, does about as well ({gain})."


def _plots(block: Block, names: list[str]) -> str:
    """The same plot for wide and for narrow pages."""
    lines = [Line("coin tosses", "zero", [(cost * 1e6, accuracy) for cost, accuracy in block["zero_router"]["curve"]])]
    for place, name in reversed(list(enumerate(names))):
        corners = [(cost * 1e6, accuracy) for cost, accuracy, _ in block["routers"][name]["curve"]]
        lines.append(Line(name, "router" if place else "router chosen", corners))
    models = [Point(model["model"], model["mean_cost_usd"] * 1e6, model["accuracy"]) for model in block["models"]]
    oracle = Point("oracle", block["oracle"]["mean_cost_usd"] * 1e6, block["oracle"]["accuracy"])
    wide, narrow = (cost_quality(*size, lines, models, oracle) for size in (WIDE, NARROW))
    return f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>'


def _details(router: Block) -> str:
    """The parts of one router: who answers, data sets, languages, calibration, robustness, drift; those that are known."""
    parts = []
    if "shares" in router:
        parts.append(f"<h3>Who answers</h3>{tables.shares(router['shares'])}")
    for key, head, what in (("datasets", "Kind by kind", "kind of question"), ("languages", "Language by language", "language")):
        if router.get(key):
            parts.append(f"<h3>{head}</h3>{tables.groups(head, what, router[key])}")
    if "calibration_error" in router:
        parts.append(_calibration(router["calibration_error"], router.get("uncertainty")))
    if "robustness" in router:
        parts.append(f"<h3>Does it keep its mind?</h3>{tables.robustness(router['robustness'])}")
    if "drift" in router:
        parts.append(f"<h3>Drift</h3>{tables.drift(router['drift'])}")
    return "".join(parts)


def _calibration(found: Block, trust: Mapping[str, Any] | None) -> str:
    rows = [[escape(name), tables.share(one["ece"]), tables.share(one["brier"])] for name, one in found["models"].items()]
    per_model = tables.table("Calibration, model by model", ["model", "calibration error", "Brier"], rows)
    told = f"<p>Expected scores are off by {found['ece']:.3f} on average (0 is perfect).</p>"
    if trust is not None:
        quarters = trust["ece_by_quarter"]
        told += f"<p>Where it is surest it is off by {quarters[0]:.3f}, where it is least sure by {quarters[-1]:.3f}.</p>"
    return (
        f'<h3>Can its expectations be taken at their word?</h3>{told}<div class="beside">{calibration_plot(found["bins"])}{per_model}</div>'
    )
