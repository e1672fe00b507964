"""What the ledger keeps of requests so that their decisions can be run again: what routing read of them, and what a planner did."""

from __future__ import annotations

import hashlib

from msgspec import UNSET, Struct, UnsetType

from gateway.account.planned import Round
from gateway.account.records import Record
from routers.api import Answer, Ask, Preferences, RouteRequest, Turn

MOST_CHARACTERS = 32_768
"""Of one answer in between. What is longer is kept to here, and cannot be run again."""
_DIGITS = 6


class AskedEntry(Struct, frozen=True, gc=False, omit_defaults=True):
    """What routing read of a request beyond its text. `prompt_tokens`: an estimate. The rest: its wishes, see routers.api.Preferences."""

    prompt_tokens: int = 0
    max_tokens: int | None = None
    n: int = 1
    needs: list[str] = []
    models: list[str] | None = None
    exclude: list[str] = []
    max_cost_usd: float | None = None
    min_quality: float | None = None
    cost_weight: float | None = None
    max_latency_ms: float | None = None

    @classmethod
    def of(cls, asked: RouteRequest) -> AskedEntry:
        p = asked.preferences
        return cls(
            asked.prompt_tokens,
            asked.max_tokens,
            asked.n,
            sorted(asked.needs),
            None if p.models is None else sorted(p.models),
            sorted(p.exclude),
            p.max_cost_usd,
            p.min_quality,
            p.cost_weight,
            p.max_latency_ms,
        )

    def preferences(self) -> Preferences:
        models = None if self.models is None else frozenset(self.models)
        wishes = (self.max_cost_usd, self.min_quality, self.cost_weight, self.max_latency_ms)
        return Preferences(models, frozenset(self.exclude), *wishes)


class RoundEntry(Struct, frozen=True, gc=False, omit_defaults=True):
    """An ask of a planner, in the order in which they ended. `number`: it was the so-manieth that was asked. `at_ms`: after the request's
    start. `final`: it was to be relayed, and could not be paid for.

    `text`, `finish` and `logprobs` stand there only if the ledger is to keep prompts. `cut`: the text was longer.
    """

    number: int
    asked: list[str]
    purpose: str
    model: str
    at_ms: float
    ms: float
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    estimated: bool = False
    final: bool = False
    text: str | None = None
    cut: bool = False
    finish: str | None = None
    logprobs: list[float] | None = None

    @classmethod
    def of(cls, one: Round, texts: bool) -> RoundEntry:
        turn = one.turn
        text = turn.text if texts else None
        return cls(
            one.number,
            list(turn.ask.models),
            turn.ask.purpose,
            turn.model,
            round(one.started * 1000, 3),
            round(turn.seconds * 1000, 3),
            turn.error,
            turn.tokens_in,
            turn.tokens_out,
            turn.cost_usd,
            one.estimated,
            turn.ask.final,
            None if text is None else text[:MOST_CHARACTERS],
            text is not None and len(text) > MOST_CHARACTERS,
            turn.finish if texts else None,
            [round(chance, _DIGITS) for chance in turn.logprobs] if texts and turn.logprobs is not None else None,
        )

    def turn(self, ask: Ask) -> Turn:
        """As the planner saw it. `ask`: its own."""
        logprobs = None if self.logprobs is None else tuple(self.logprobs)
        tokens = (self.prompt_tokens, self.completion_tokens)
        return Turn(ask, self.model, self.text, self.cost_usd, self.ms / 1000, self.error, *tokens, logprobs, self.finish)


class EndEntry(Struct, frozen=True, gc=False, omit_defaults=True):
    """How a plan ended: with a final ask (`asked`, in this order) for `purpose`, or with an answer that the planner put together of the
    words of `model`. `digest`: of that answer, only if the ledger is to keep prompts.
    """

    asked: list[str] | None = None
    purpose: str = ""
    model: str | None = None
    digest: str | None = None

    @classmethod
    def of(cls, end: Ask | Answer, texts: bool) -> EndEntry:
        if isinstance(end, Ask):
            return cls(list(end.models), end.purpose)
        return cls(None, "", end.model, digest(end.text) if texts else None)


class PlanEntry(Struct, frozen=True, gc=False, omit_defaults=True):
    """What a planner did. `calls`: that went to a model. `single`: why one call made the answer. `end`: None if it did not get so far.

    `steps`: for each time that it was asked, how many rounds it knew, and what was left of the caller's bounds (USD, seconds; None:
    unbounded).
    """

    calls: int
    single: str | None = None
    steps: list[tuple[int, float | None, float | None]] = []
    end: EndEntry | None = None


def plan_entry(record: Record) -> PlanEntry | UnsetType:
    """What a request's planner did; UNSET where its route makes one call always."""
    planned = record.planned
    if planned is None:
        return UNSET
    steps = [(step.turns, step.left.cost_usd, _rounded(step.left.seconds)) for step in planned.steps]
    end = None if planned.end is None else EndEntry.of(planned.end, record.text is not None)
    return PlanEntry(planned.calls, record.decision.single, steps, end)


def round_entries(record: Record) -> list[RoundEntry] | UnsetType:
    """What was asked before the answer; UNSET if nothing was. Answers are kept where the prompt is."""
    if record.planned is None or not record.planned.rounds:
        return UNSET
    return [RoundEntry.of(one, record.text is not None) for one in record.planned.rounds]


def asked_entry(record: Record) -> AskedEntry | UnsetType:
    """UNSET where nothing was to be decided."""
    return UNSET if record.asked is None or record.decision.route is None else AskedEntry.of(record.asked)


def digest(text: str) -> str:
    """16 hex digits by which an answer is known again."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, _DIGITS)
