"""The work itself: every model is asked every question that the journal does not hold yet."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from gateway.calibration.asking import Answered, Asker, NoAnswer
from gateway.calibration.journal import Journal, Row
from gateway.calibration.judging import JUDGE_TOKENS, Judge, conversation
from gateway.calibration.purse import BYTES_PER_ANSWER_TOKEN, Purse, most_usd
from gateway.fleet import Fleet
from routers.api import Price
from routers.learning.grading import Grade
from routers.learning.questions import Question

GIVE_UP = 20
"""Failures of a model in a row after which it is asked no more in this run."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be asked, and how. `judge`: a model's name, if some question needs one. `max_tokens`: of an answer.

    `concurrency`: calls at once to one backend. `ceiling_usd`: for the whole table, what the journal holds included; None for none.
    """

    questions: Sequence[Question]
    models: Sequence[str]
    judge: str | None = None
    max_tokens: int = 1024
    concurrency: int = 8
    ceiling_usd: float | None = None
    seed: int | None = None

    def digest(self, question: Question, served_as: str) -> str:
        """16 hex digits of all that one outcome depends on."""
        judge = self.judge if question.grader == "judge" else None
        parts = [question.digest(), served_as, self.max_tokens, self.seed, judge]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@dataclass(slots=True)
class Tally:
    """How one model fared. `failures`: answers that did not come; `why`: the newest reason. `given_up`: it was asked no more."""

    reused: int = 0
    asked: int = 0
    failures: int = 0
    in_a_row: int = 0
    why: str = ""
    given_up: bool = False


@dataclass(slots=True)
class Findings:
    """`rows`: of the plan's questions alone. `spent_usd`: models and judge, for all of them. `stopped`: the ceiling was reached."""

    rows: list[tuple[Question, Row]] = field(default_factory=list)
    tallies: dict[str, Tally] = field(default_factory=dict)
    spent_usd: float = 0.0
    stopped: bool = False


class Work:
    """One run. `told` hears of every row that is there, those of earlier runs first, and of every failure."""

    def __init__(
        self,
        plan: Plan,
        fleet: Fleet,
        journal: Journal,
        asker: Asker,
        threads: ThreadPoolExecutor,
        told: Callable[[int, float], None],
    ) -> None:
        self._plan = plan
        self._fleet = fleet
        self._journal = journal
        self._asker = asker
        self._judge = None if plan.judge is None else Judge(plan.judge, asker)
        self._threads = threads
        self._told = told
        self._grades = [question.grade() for question in plan.questions]
        self._found = Findings(tallies={name: Tally() for name in plan.models})
        self._purse = Purse(plan.ceiling_usd, 0.0)

    async def run(self) -> Findings:
        """Asks until all is there, the ceiling is reached, or every model was given up. Raises SandboxUnavailable, OSError (the disk)."""
        missing = {name: iter(self._reuse(name)) for name in self._plan.models}
        self._told(len(self._found.rows), self._purse.spent)
        try:
            async with asyncio.TaskGroup() as group:
                for name, places in missing.items():
                    for _ in range(self._plan.concurrency * len(self._fleet[name].pool.backends)):
                        group.create_task(self._ask_all(name, places))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        self._found.spent_usd, self._found.stopped = self._purse.spent, self._purse.empty
        return self._found

    def _reuse(self, model: str) -> list[int]:
        """Takes what the journal holds of a model; returns the places of the questions that it lacks."""
        missing, tally = [], self._found.tallies[model]
        for place, question in enumerate(self._plan.questions):
            row = self._journal.rows.get((question.id, model, self._digest(question, model)))
            if row is None:
                missing.append(place)
                continue
            tally.reused += 1
            self._purse.spent += (row.cost_usd or 0.0) + (row.judge_cost_usd or 0.0)
            self._found.rows.append((question, row))
        return missing

    def _digest(self, question: Question, model: str) -> str:
        return self._plan.digest(question, self._fleet[model].served_json.decode())

    async def _ask_all(self, model: str, places: Iterator[int]) -> None:
        """One of a model's workers: they share `places`."""
        tally = self._found.tallies[model]
        for place in places:
            question, grade = self._plan.questions[place], self._grades[place]
            most = self._most(model, question, grade)
            if tally.given_up or not await self._purse.reserve(most):
                return
            spent: float | None = 0.0
            try:
                row, spent = await self._outcome(model, question, grade)
            except NoAnswer as error:
                tally.failures, tally.in_a_row, tally.why = tally.failures + 1, tally.in_a_row + 1, str(error)
                tally.given_up = tally.in_a_row >= GIVE_UP
            else:
                self._journal.add(row)
                tally.asked, tally.in_a_row = tally.asked + 1, 0
                self._found.rows.append((question, row))
            finally:
                await self._purse.settle(most, spent)
            self._told(1, self._purse.spent)

    async def _outcome(self, model: str, question: Question, grade: Grade) -> tuple[Row, float | None]:
        """The row, and what it cost in all; None if that is not known. Raises NoAnswer."""
        answered = await self._asker.ask(model, question.chat, self._plan.max_tokens)
        score, judge_cost = 0.0, None
        if grade.check is not None:
            score = await asyncio.get_running_loop().run_in_executor(self._threads, grade.check, answered.text)
        elif grade.judging is not None and self._judge is not None:
            verdict = await self._judge.grade(question, grade.judging, answered.text)
            score, judge_cost = verdict.score, verdict.cost_usd
        row = self._row(model, question, answered, score, judge_cost)
        if answered.cost_usd is None or (grade.judging is not None and judge_cost is None):
            return row, None
        return row, answered.cost_usd + (judge_cost or 0.0)

    def _row(self, model: str, question: Question, answered: Answered, score: float, judge_cost: float | None) -> Row:
        usage = answered.usage
        return Row(
            query_id=question.id,
            model=model,
            digest=self._digest(question, model),
            score=score,
            cost_usd=answered.cost_usd,
            judge_cost_usd=judge_cost,
            tokens_in=None if usage is None else usage.prompt_tokens,
            tokens_out=None if usage is None else usage.completion_tokens,
            latency_s=round(answered.seconds, 6),
            answer=answered.text,
        )

    def _most(self, model: str, question: Question, grade: Grade) -> float:
        """The most that one row can cost: the answer, and the judge's calls about it."""
        size = len(conversation(question).encode(errors="replace"))
        most = most_usd(self._price(model), size, self._plan.max_tokens)
        if grade.judging is None or self._judge is None:
            return most
        texts = len((grade.judging.rubric + grade.judging.reference).encode(errors="replace")) + 2000
        read = size + texts + self._plan.max_tokens * BYTES_PER_ANSWER_TOKEN
        calls = 2 if grade.judging.mode == "pairwise" else 1
        return most + calls * most_usd(self._price(self._judge.name), read, JUDGE_TOKENS)

    def _price(self, model: str) -> Price | None:
        return self._fleet[model].model.price


def missing(findings: Findings, plan: Plan) -> Mapping[str, int]:
    """How many questions each model has no outcome for."""
    return {name: len(plan.questions) - tally.reused - tally.asked for name, tally in findings.tallies.items()}
