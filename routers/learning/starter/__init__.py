"""The starter set: about 400 questions of 12 kinds in six languages whose answers are known, made by this code from fixed seeds.

All texts were written for it; nothing comes from a public data set. It tells models apart on a first day; whoever has questions of their
own should ask those. The questions of a kind get harder with their number. Changing anything here makes other questions of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from routers.learning.questions import Question, normal
from routers.learning.starter.drafts import LANGUAGES, Draft, Texts, load_texts
from routers.learning.starter.programs import code_reading, code_writing
from routers.learning.starter.puzzles import dates, logic, strings
from routers.learning.starter.sums import arithmetic, units, word_problems
from routers.learning.starter.wording import extraction, instructions, knowledge, translation

Maker = Callable[[Texts, str, Random, int], Draft]
KINDS: Mapping[str, tuple[Maker, int]] = {
    "arithmetic": (arithmetic, 6),
    "word_problems": (word_problems, 6),
    "units": (units, 6),
    "logic": (logic, 6),
    "strings": (strings, 6),
    "dates": (dates, 6),
    "extraction": (extraction, 6),
    "code_writing": (code_writing, 4),
    "code_reading": (code_reading, 6),
    "knowledge": (knowledge, 5),
    "translation": (translation, 6),
    "instructions": (instructions, 6),
}
"""Each kind's maker, and how many questions it makes in each language."""
TRIES = 100


def starter_questions() -> list[Question]:
    """The whole set, the same each time: by kind, language and number. No two prompts are the same."""
    texts = load_texts()
    seen: set[str] = set()
    found = []
    for kind, (maker, count) in KINDS.items():
        for language in LANGUAGES:
            for number in range(count):
                draft = _new(maker, texts, kind, language, number, seen)
                identity, dataset = f"starter/{kind}/{language}/{number}", f"starter/{kind}"
                parameters = dict(draft.parameters)
                found.append(Question(identity, dataset, draft.prompt, draft.grader, draft.answer, parameters, language=language))
    return found


def _new(maker: Maker, texts: Texts, kind: str, language: str, number: int, seen: set[str]) -> Draft:
    """The first draft from the question's own seeds whose prompt is not in the set yet."""
    for attempt in range(TRIES):
        draft = maker(texts, language, Random(f"{kind}/{language}/{number}/{attempt}"), number)
        if normal(draft.prompt) not in seen:
            seen.add(normal(draft.prompt))
            return draft
    raise ValueError(f"{kind}: there is no new question {number} in {language}")
