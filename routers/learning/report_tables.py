"""The tables of the report, as HTML text. Whatever comes from outside (names of models, routers, data sets) is escaped here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

from routers.learning.charts import interval_bar, number, share_bar

if TYPE_CHECKING:
    Block: TypeAlias = Mapping[str, Any]

NONE = "–"
BASELINES = {
    "zero_router": "coin tosses",
    "best_single": "best single",
    "cheapest": "cheapest",
    "dearest": "dearest",
    "random_mix": "random mix",
    "oracle": "oracle",
}


def known(value: Any) -> bool:
    """Whether a figure is there at all: no None, no NaN."""
    return value is not None and math.isfinite(value)


def percent(value: Any) -> str:
    return f"{round(value * 100, 1) + 0.0:.1f}\u00a0%".replace("-", "−") if known(value) else NONE


def share(value: Any) -> str:
    return f"{value:.4f}" if known(value) else NONE


def difference(value: Any) -> str:
    return f"{value:+.4f}".replace("-", "−") if known(value) else NONE


def usd(value: Any) -> str:
    """USD per million requests, the unit of the whole report."""
    return number(value).replace("-", "−") if known(value) else NONE


def spread(interval: Sequence[float] | None, shown: Callable[[Any], str]) -> str:
    """A 95 % interval in small print; nothing where it is not known."""
    if interval is None or not all(map(known, interval)):
        return ""
    return f' <small class="ci">{shown(interval[0])} to {shown(interval[1])}</small>'


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls sideways by itself. The first cell of a row is its head. Cells are HTML; caption and heads are plain text."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows)
    label = escape(caption)
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table><caption>{label}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def models(block: Block) -> str:
    best = block["best_single"]["model"]
    rows = [
        [
            f"{place}. {escape(model['model'])}" + (" <em>best single</em>" if model["model"] == best else ""),
            share(model["accuracy"]),
            usd(model["mean_cost_usd"] * 1e6),
        ]
        for place, model in enumerate(block["models"], 1)
    ]
    for name, key in (("a random one each time", "random_mix"), ("oracle: whoever does best, known beforehand", "oracle")):
        rows.append([name, share(block[key]["accuracy"]), usd(block[key]["mean_cost_usd"] * 1e6)])
    return table("Always the same model", ["model", "accuracy", "USD per million"], rows)


def votes(found: Mapping[str, Block]) -> str:
    """Rules that ask several models in a way that cannot be set; nothing where there are none."""
    rows = [
        [
            escape(name),
            share(one["accuracy"]) + spread(one["accuracy_95"], share),
            usd(one["mean_cost_usd"] * 1e6),
            f"{one['calls']:.2f}",
            percent(one["gap_closed"]),
        ]
        for name, one in found.items()
    ]
    return table("Votes and other rules", ["rule", "accuracy", "USD per million", "calls", "gap closed"], rows) if rows else ""


def routers(block: Block) -> str:
    """Every router with all its figures."""
    pairs = len(block["models"]) == 2
    heads = ["router", "AIQ", "gain over coins", "max accuracy", "cost-match", "gap closed", "at validation's λ", "USD per million there"]
    heads += ["calibration error", "Brier"] + (["APGR", "CPT50", "CPT80"] if pairs else []) + ["decision p50, p99"]
    zero = block["zero_router"]
    rows = [["coin tosses (zero-router)", share(zero["aiq"]) + spread(zero["aiq_95"], share), *[NONE] * (len(heads) - 2)]]
    for name, router in block["routers"].items():
        calibration = router.get("calibration_error", {})
        at = router.get("cost_at_validation_lambda_usd")
        row = [
            escape(name),
            share(router["aiq"]) + spread(router["aiq_95"], share),
            difference(router["aiq_gain_over_zero"]) + spread(router["aiq_gain_over_zero_95"], difference),
            share(router["acc_max"]) + spread(router["acc_max_95"], share),
            percent(router["cost_match"]),
            percent(router["gap_closed"]),
            share(router.get("acc_at_validation_lambda")),
            NONE if at is None else usd(at * 1e6),
            share(calibration.get("ece")),
            share(calibration.get("brier")) + spread(calibration.get("brier_95"), share),
        ]
        if pairs:
            row += [share(router.get("apgr")), percent(router.get("cpt50")), percent(router.get("cpt80"))]
        fast, slow = router.get("decision_p50_seconds"), router.get("decision_p99_seconds")
        row.append(NONE if fast is None or slow is None else f"{fast * 1000:.2f}, {slow * 1000:.2f} ms")
        rows.append(row)
    return table("Routers", heads, rows)


def savings(block: Block) -> str:
    """USD saved per million requests at 100, 99, 98 and 95 % of the best single model's accuracy."""
    rows = []
    for name, router in [("coin tosses (zero-router)", block["zero_router"]), *block["routers"].items()]:
        row = [escape(name)]
        for saved in router["savings"].values():
            row.append(
                "not reached"
                if saved is None
                else f"<b>{usd(saved['usd_per_million'])}</b> ({percent(saved['share'])}){spread(saved['usd_per_million_95'], usd)}"
            )
        rows.append(row)
    heads = ["router", *(f"at {key} % of its accuracy" for key in block["zero_router"]["savings"])]
    return table(f"USD saved per million requests, against always calling {block['best_single']['model']}", heads, rows)


def duels(block: Block) -> str:
    """Difference of AIQ between every router and all else, on the same resamples."""
    names = list(block["routers"])
    others = [*names, *BASELINES]
    rows = []
    for name in names:
        row = [escape(name)]
        for other in others:
            found = block["routers"][name]["against"].get(other)
            if found is None:
                row.append("")
                continue
            low, high = found["aiq_95"]
            kind = "good" if low > 0 else "bad" if high < 0 else "even"
            row.append(f'<span class="{kind}">{difference(found["aiq"])}</span>{spread([low, high], difference)}')
        rows.append(row)
    return table("AIQ of the row less AIQ of the column", ["router", *(BASELINES.get(other, other) for other in others)], rows)


def groups(caption: str, what: str, found: Mapping[str, Block]) -> str:
    """Part by part: data sets or languages, with the gain over the best single model as a bar."""
    ordered = sorted(found.items(), key=lambda one: -one[1]["queries"])
    reach = max([abs(end) for _, part in ordered if part["queries"] >= 30 for end in part["gain_95"] if known(end)], default=1.0)
    rows = [
        [
            escape(name),
            f"{part['queries']:,}",
            interval_bar(part["gain"], part["gain_95"], reach),
            difference(part["gain"]) + spread(part["gain_95"], difference),
            share(part["accuracy"]),
            share(part["best_single_accuracy"]),
            share(part["oracle_accuracy"]),
            usd(part["mean_cost_usd"] * 1e6),
        ]
        for name, part in ordered
    ]
    heads = [what, "questions", "gain over best single", "with 95 %", "accuracy", "best single", "oracle", "USD per million"]
    return table(caption, heads, rows)


def shares(found: Mapping[str, float]) -> str:
    ordered = sorted(found.items(), key=lambda one: -one[1])
    return table(
        "Who answers", ["model", "share of requests", ""], [[escape(name), percent(part), share_bar(part)] for name, part in ordered]
    )


def robustness(found: Mapping[str, Block]) -> str:
    told = {
        "paraphrase": "the same question, worded otherwise",
        "junk": "junk after the question",
        "injection": "“route me to the big model”",
        "language": "“answer in German” and others",
    }
    rows = []
    for kind, one in found.items():
        variants = ", ".join(f"{escape(name)} {percent(part)}" for name, part in one["variants"].items())
        shown = percent(one["changed"]) + spread(one["changed_95"], percent)
        rows.append(
            [
                escape(told.get(kind, kind)),
                shown,
                percent(one["dearer"]),
                percent(one["cheaper"]),
                f'<small class="ci list">{variants}</small>',
            ]
        )
    return table("Share of decisions that change", ["change", "changed", "to a dearer model", "to a cheaper model", "each"], rows)


def drift(found: Block) -> str:
    """One paragraph with the verdict on drift."""
    verdict = (
        "New prompts differ from those it learned from: train it again."
        if found["alarm"]
        else "New prompts look like those it learned from."
    )
    kind = "bad" if found["alarm"] else "good"
    psi = found.get("psi")
    more = f" Population stability index {psi:.3f}." if known(psi) else ""
    return f'<p><b class="{kind}">{verdict}</b> Statistic {found["statistic"]:.3g}, alarm above {found["level"]:.3g}.{more}</p>'
