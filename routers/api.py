"""The extension surface: what a router reads, what it answers, and the five protocols that plugins implement.

A policy is a line of plugins: filters throw candidates out, scorers give opinions on those that are left, one picker turns the
weighted opinions into an order, one planner says which calls make the answer. All of them are pure: they read what stands on this
page and do no I/O. Plugins are classes found by entry point; the keyword parameters of their constructor are their configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Literal, Protocol, Self, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Embedding: TypeAlias = NDArray[np.float32]
    Embeddings: TypeAlias = NDArray[np.float32]

Endpoint = Literal["chat", "completions", "embeddings"]
Need = Literal["text", "embedding", "load"]
Capability = Literal["chat", "completions", "embeddings", "tools", "json_schema", "vision", "rerank"]

Reason = Literal[
    "named",  # the request named this model: nothing to decide
    "only_candidate",  # the filters left one
    "best_score",  # the picker's first choice
    "no_opinion",  # no scorer had an opinion: the route's default serves
    "deadline",  # the policy took too long: the route's default serves
    "policy_error",  # the policy broke: the route's default serves
    "pinned",  # the conversation keeps its model
]

Rejection = Literal[
    "not_allowed",  # outside the caller's or the request's own list of models
    "no_capability",  # lacks something that the request uses
    "context_length",  # the prompt and the answer don't fit its context window
    "max_cost",  # dearer than the request's own max_cost_usd
    "budget",  # may cost more than what is left of the caller's budget
    "unhealthy",  # no backend of it can serve now
]


@dataclass(frozen=True, slots=True)
class Price:
    """USD per 1,000,000 tokens. `cached_input`, `reasoning`: None: as `input`, as `output`. `request`: USD for each call."""

    input: float
    output: float
    cached_input: float | None = None
    reasoning: float | None = None
    request: float = 0.0


@dataclass(frozen=True, slots=True)
class Model:
    """An expert that answers, as configured. `price` and `context_window` (tokens) are None where unknown."""

    name: str
    price: Price | None = None
    context_window: int | None = None
    capabilities: frozenset[str] = frozenset({"chat", "completions"})
    description: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model as it stands at the moment of the decision.

    `load`: requests in flight per usable backend; None if unknown. `answer_tokens`: mean length of its answers so far, in tokens;
    None before the first one. `wake_seconds`: until it can serve, where models share GPUs and take turns: 0 if it is awake, infinity
    if nobody knows; None if it takes no turns.
    """

    model: Model
    healthy: bool = True
    load: float | None = None
    answer_tokens: float | None = None
    wake_seconds: float | None = None

    @property
    def name(self) -> str:
        return self.model.name


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the caller asks of the router for this one request (`router` in the body). None: no preference."""

    models: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    max_cost_usd: float | None = None
    min_quality: float | None = None
    cost_weight: float | None = None
    max_latency_ms: float | None = None
    session: str | None = None
    explain: bool = False


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """What a router may know of a request.

    `text`: the newest human turn (or the prompt, or the inputs), shortened to the route's cap; empty unless a plugin needs it.
    `prompt_tokens`: estimate of the whole prompt. `max_tokens`: the caller's bound on the answer, None if there is none.
    `needs`: capabilities that the request uses. `embedding`: float32 (d,), unit length; None unless a scorer needs it.
    `allowed`: models that the caller may use; None: all. `budget_usd`: what is left of the caller's budget; None: there is none.
    """

    endpoint: Endpoint = "chat"
    text: str = ""
    prompt_tokens: int = 0
    max_tokens: int | None = None
    n: int = 1
    needs: frozenset[str] = frozenset()
    preferences: Preferences = field(default_factory=Preferences)
    embedding: Embedding | None = None
    allowed: frozenset[str] | None = None
    budget_usd: float | None = None

    def reading(self, text: str, embedding: Embedding | None = None) -> RouteRequest:
        """The same request with what is asked, and its vector. Each new decision needs both; `dataclasses.replace` takes twice as long."""
        known = self.endpoint, text, self.prompt_tokens, self.max_tokens, self.n, self.needs, self.preferences
        return RouteRequest(*known, embedding, self.allowed, self.budget_usd)


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate with its weighted score.

    `opinions`: scorer -> opinion in [0, 1]. `quality`: expected quality in [0, 1] from the scorers that predict it; None if none does.
    `uncertainty`: standard deviation of that expectation; None if nobody says.
    `cost_usd`: expected cost of this request; None if the price is unknown.
    `propensity`: the probability with which the picker put it first; None if chance had no part in it.
    """

    name: str
    score: float
    opinions: Mapping[str, float] = field(default_factory=dict)
    quality: float | None = None
    cost_usd: float | None = None
    uncertainty: float | None = None
    propensity: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a policy says of a request: the order in which models should serve it, and why. May be cached.

    `ranking`: who serves first, then the fallback order. `rejected`: model -> reason. `plugin_seconds`: time spent by plugin.
    `errors`: plugin -> what went wrong (its opinion was dropped).
    `shadow`: the model that another picker, which serves nobody, would have chosen; None if there is none.
    """

    policy: str
    reason: Reason
    ranking: tuple[Scored, ...]
    rejected: Mapping[str, Rejection | str] = field(default_factory=dict)
    plugin_seconds: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    shadow: str | None = None

    @property
    def model(self) -> str:
        """The model that should serve. The ranking of a choice is never empty."""
        return self.ranking[0].name


class NoCandidate(Exception):
    """Every candidate was rejected. `rejected`: model -> reason."""

    def __init__(self, rejected: Mapping[str, Rejection | str]) -> None:
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in rejected.items()) or "no candidates")
        self.rejected = rejected


Message: TypeAlias = tuple[str, str]
"""Role and text: ("user", "What is …")."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One call that a planner wants. `models`: who should answer, then who may stand in.

    `final`: relay it straight to the client, as it comes. The rest is for the asks in between.
    `prompt`: these messages instead of the client's own conversation. `continues`: the last message is the beginning of the model's own
    answer, to be gone on with. `max_tokens`, `stop`, `temperature`: None or empty: as the client asked. `logprobs`: of the tokens that
    it writes. `purpose`: the planner's own mark, by which it knows the turn again; shown to whoever asks for an explanation.
    """

    models: tuple[str, ...]
    final: bool = True
    prompt: tuple[Message, ...] | None = None
    continues: bool = False
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    logprobs: bool = False
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of an ask. `text` is None where it failed; `error` says why. Unknown is None.

    `model`: who answered. `logprobs`: natural logarithms of the chances of the tokens that were written. `finish`: why it ended, as the
    backend says (`stop`, `length`).
    """

    ask: Ask
    model: str
    text: str | None
    cost_usd: float | None
    seconds: float
    error: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    logprobs: tuple[float, ...] | None = None
    finish: str | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """What has happened so far. `turns`: in the order in which they ended. `running`: asks that are under way."""

    turns: tuple[Turn, ...] = ()
    running: tuple[Ask, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A planner's own last word: this text is the answer. `model`: whose words they are; None: nobody's in particular."""

    text: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """What a planner works on. `ranking`: the candidates in the picker's order. `models`: each of them by name, as configured."""

    request: RouteRequest
    ranking: Sequence[Scored]
    models: Mapping[str, Model]


@dataclass(frozen=True, slots=True)
class Budget:
    """What is left of the caller's bounds. None: unbounded."""

    cost_usd: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request went, for those who learn. `score` in [0, 1]; None where nobody judged. Unknown is None."""

    request: RouteRequest
    model: str
    score: float | None
    cost_usd: float | None
    tokens_in: int | None
    tokens_out: int | None
    latency_s: float | None


class Opinion(float):
    """An opinion that says how sure it is. `spread`: the standard deviation of what it expects; None if unknown."""

    __slots__ = ("spread",)
    spread: float | None

    def __new__(cls, value: float, spread: float | None = None) -> Self:
        made = super().__new__(cls, value)
        made.spread = spread
        return made


class Pick(tuple[Scored, ...]):
    """The candidates in a picker's order, with more to say than the order.

    `chances`: model -> probability with which it came first, for all that could have; they add up to 1. None: chance had no part in it.
    `shadow`: says in which order another picker would have put them. It is asked after the pick, and what it breaks is its own.
    """

    chances: Mapping[str, float] | None
    shadow: Callable[[], Sequence[Scored]] | None

    def __new__(
        cls,
        ranking: Iterable[Scored],
        chances: Mapping[str, float] | None = None,
        shadow: Callable[[], Sequence[Scored]] | None = None,
    ) -> Self:
        made = super().__new__(cls, ranking)
        made.chances = chances
        made.shadow = shadow
        return made


class Filter(Protocol):
    """A hard rule: why the candidate must not serve this request, or None. If its `is_idle(request)` is there and True, it is not asked."""

    def reject(self, request: RouteRequest, candidate: Candidate) -> str | None: ...


class Scorer(Protocol):
    """An opinion in [0, 1] on each candidate; a missing name is "no opinion". A number, or an Opinion, which also says how sure it is.

    A scorer that was loaded from an artifact has its `artifact_hash` as well: remembered choices do not outlive it.

    `needs`: what it reads beyond the counts; nobody computes what no one wants. `instant`: True promises that `score` takes
    microseconds, so that it may run on the event loop; all others run in a thread, under the route's deadline. One with a `quick` that is
    True promises at most a few hundred microseconds for a text of 2,000 characters: it runs on the loop where the text is no longer.
    `predicts`: "quality" for an expected outcome in [0, 1], "cost" for the one scorer that `cost_weight` replaces, else "preference".
    """

    @property
    def needs(self) -> frozenset[Need]: ...

    @property
    def instant(self) -> bool: ...

    @property
    def predicts(self) -> Literal["quality", "cost", "preference"]: ...

    def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]: ...


class Encoder(Protocol):
    """Turns texts into float32 vectors (n, d) of unit length. `hash` names the weights: an artifact belongs to one encoder.
    `quick`: as a Scorer's.
    """

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> str: ...

    def encode(self, texts: Sequence[str]) -> Embeddings: ...


class Picker(Protocol):
    """Turns weighted scores (best first) into who serves; the rest of the order is the fallback order.

    It returns the very candidates that it was given, all of them: as a plain sequence, or as a Pick, which also says by which chance.
    A picker that was loaded from an artifact has its `artifact_hash` as well: remembered choices do not outlive it.

    `deterministic`: the same scores always give the same order, so that a choice may be cached.
    """

    @property
    def deterministic(self) -> bool: ...

    def pick(self, request: RouteRequest, ranked: Sequence[Scored], rng: Random) -> Sequence[Scored]: ...


class Planner(Protocol):
    """How many calls make one answer: a pure function of what has happened so far.

    It is asked at the start, and again after each turn. It says whom to ask besides those who are being asked already (nobody: wait for
    them), or ends: with an Answer, or with a single final ask, which is relayed. What still runs when it ends is cancelled. An ask that
    fails is a turn like any other. `needs`: as a scorer's.
    """

    @property
    def needs(self) -> frozenset[Need]: ...

    def next(self, task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer: ...


class Learner(Protocol):
    """Hears how it went: any plugin of a policy that has this method is told. It must return soon, and is called in one thread.

    A plugin that learns only if it is configured to says so by an attribute `learns`. One whose opinions change as it learns has a text
    `revision` that changes with them, though not necessarily each time: remembered choices do not outlive it.
    """

    def observe(self, outcome: Outcome) -> None: ...


class Keeper(Learner, Protocol):
    """A learner that keeps what it learned. Called in the same thread as `observe`.

    `keep`: every few seconds, `due` at most every `snapshot_seconds` and at the end. Writes down what is worth it, and returns the name of
    what it wrote; None if nothing. Raises OSError or ValueError, whose text tells the operator what is wrong. `close`: after the last one.
    """

    @property
    def snapshot_seconds(self) -> float: ...

    def keep(self, now: datetime, due: bool) -> str | None: ...

    def close(self) -> None: ...
