"""Queries as the dashboards ask them: of the namespaces and jobs that are chosen at the top, summed over gateways."""

from __future__ import annotations

CHOSEN = 'namespace=~"$namespace", job=~"$job"'
ROUTE = 'route=~"$route"'
MODEL = 'model=~"$model"'


def select(metric: str, where: str = "") -> str:
    """The series of a metric. `where`: further matchers."""
    return f"{metric}{{{CHOSEN}{', ' if where else ''}{where}}}"


def total(metric: str, by: str = "", where: str = "", over: str = "$__rate_interval") -> str:
    """How much a counter grows in a second, by some labels."""
    return _sum(f"rate({select(metric, where)}[{over}])", by)


def grown(metric: str, by: str = "", where: str = "", over: str = "$__range") -> str:
    """How much a counter has grown in the time that is shown."""
    return _sum(f"increase({select(metric, where)}[{over}])", by)


def quantile(share: float, histogram: str, by: str = "", where: str = "") -> str:
    """What this share of a histogram's observations stays below."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share:g}, {total(f'{histogram}_bucket', labels, where)})"


def mean(histogram: str, by: str = "", where: str = "") -> str:
    """The mean of a histogram's observations."""
    return f"{total(f'{histogram}_sum', by, where)} / {total(f'{histogram}_count', by, where)}"


def share(part: str, whole: str) -> str:
    """A part of a whole; 0 where nothing of it was counted yet."""
    return f"(({part}) or 0 * ({whole})) / ({whole})"


def each(part: str, whole: str) -> str:
    """How much of one thing there is for each of another; nothing where there is none of it."""
    return f"({part}) / (({whole}) > 0)"


def _sum(what: str, by: str) -> str:
    return f"sum by ({by}) ({what})" if by else f"sum({what})"
