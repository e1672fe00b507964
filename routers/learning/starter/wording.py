"""Words and forms: `extraction`, `translation`, `knowledge`, `instructions`."""

from __future__ import annotations

import json
from random import Random

from routers.learning.starter.drafts import LANGUAGES, Draft, Texts
from routers.learning.starter.puzzles import options, spelled

_WORDS = ("amber", "canyon", "drizzle", "ember", "falcon", "glacier", "harvest", "island", "juniper", "kettle", "lantern", "marble")


def extraction(texts: Texts, language: str, rng: Random, number: int) -> Draft:
    """One order as an object, or two or three as a list; every value is checked, so the schema has one answer."""
    count = (1, 1, 1, 2, 2, 3)[number]
    names = rng.sample(texts.vocabulary["names"][language], count)
    cities = rng.sample(texts.vocabulary["cities"][language], count)
    found, told = [], []
    for name, city in zip(names, cities, strict=True):
        order = {"name": name, "city": city, "quantity": rng.randint(2, 30), "total": rng.randint(31, 900)}
        found.append(order)
        item = rng.choice(texts.vocabulary["items"][language])
        told.append(
            texts.say("order", language, {"name": name, "city": city, "n": order["quantity"], "item": item, "total": order["total"]})
        )
    text = ("" if language == "zh" else " ").join(told)
    if count == 1:
        prompt, answer, schema = texts.say("extract_one", language, {"t": text}), json.dumps(found[0], ensure_ascii=False), _only(found[0])
    else:
        short = [{key: order[key] for key in ("name", "quantity", "total")} for order in found]
        prompt, answer = texts.say("extract_all", language, {"t": text}), json.dumps(short, ensure_ascii=False)
        schema = {"type": "array", "prefixItems": [_only(order) for order in short], "items": False, "minItems": count}
    return Draft(prompt, "json_schema", answer, {"schema": schema})


def _only(value: dict[str, object]) -> dict[str, object]:
    """The schema that an object with these values fits, and no other."""
    fields = {key: {"const": one} for key, one in value.items()}
    return {"type": "object", "properties": fields, "required": list(value), "additionalProperties": False}


def translation(texts: Texts, language: str, rng: Random, number: int) -> Draft:
    """A word for 0 to 2, a sentence for 3 to 5; always into another language."""
    target = rng.choice([other for other in LANGUAGES if other != language])
    name = texts.vocabulary["languages"][language][target]
    if number < 3:
        word = rng.choice(texts.vocabulary["words"])
        prompt = texts.say("say_word", language, {"w": word[language][0], "l": name})
        return Draft(prompt, "contains_all", [word[target]])
    sentence = texts.vocabulary["sentences"][number - 3]
    prompt = texts.say("say_sentence", language, {"w": sentence[language][0], "l": name})
    return Draft(prompt, "contains_all", sentence[target][1:])


def knowledge(texts: Texts, language: str, rng: Random, number: int) -> Draft:
    question, right, *others = texts.knowledge[language][number]
    lines, letter = options(rng, right, others)
    return Draft(f"{question}\n{lines}\n{texts.say('letter_only', language)}", "choice", letter, {"choices": 4})


def instructions(texts: Texts, language: str, rng: Random, number: int) -> Draft:
    word, times, start = rng.choice(_WORDS), rng.randint(3, 7), rng.randint(2, 60)
    if number == 0:
        text = "-".join([word] * times)
        return Draft(texts.say("repeat", language, {"w": word, "k": times}), "regex", text, {"pattern": text, "ignore_case": True})
    if number == 1:
        pattern = rf"[a-z]+(?: [a-z]+){{{times - 1}}}"
        return Draft(texts.say("word_count", language, {"k": times}), "regex", " ".join(_WORDS[:times]), {"pattern": pattern})
    if number == 2:
        numbers = list(range(start, start + times + 1))
        prompt = texts.say("json_list", language, {"a": start, "b": numbers[-1]})
        return Draft(prompt, "json_schema", json.dumps(numbers), {"schema": {"const": numbers}, "strict": True})
    if number == 3:
        lines = [str(value) for value in range(start + times + 2, start - 1, -1)]
        prompt = texts.say("countdown", language, {"a": start, "b": lines[0]})
        return Draft(prompt, "regex", "\n".join(lines), {"pattern": r"[ \t]*\r?\n\s*".join(lines)})
    if number == 4:
        letter = rng.choice("ABCDEFGHIJKLMNOPQR")
        text = f"[{chr(ord(letter) + times)}]"
        return Draft(texts.say("brackets", language, {"k": times, "w": letter}), "regex", text, {"pattern": spelled(text)})
    text = ".".join(word.upper())
    return Draft(texts.say("spell", language, {"w": word}), "regex", text, {"pattern": spelled(text)})
