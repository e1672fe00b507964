"""The language of a text: by script, by common words, and honestly unknown."""

from __future__ import annotations

import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.languages import OTHER, language

SENTENCES = {
    "en": "What is the capital of France, and how many people live there?",
    "de": "Wie viele Tage hat ein Jahr, und warum ist das nicht immer gleich?",
    "fr": "Quelle est la capitale de la France et pourquoi ?",
    "es": "¿Cuál es la capital de Francia?",
    "it": "Qual è la capitale della Francia?",
    "pt": "Qual é a capital da França? Você sabe?",
    "nl": "Wat is de hoofdstad van Frankrijk?",
    "pl": "Jaka jest stolica Francji i dlaczego?",
    "tr": "Fransa'nın başkenti neresidir?",
    "sv": "Vad är huvudstaden i Frankrike?",
    "da": "Hvad er hovedstaden i Frankrig, og hvorfor ikke?",
    "cs": "Jaké je hlavní město Francie?",
    "ro": "Care este capitala Franței?",
    "fi": "Mikä on Ranskan pääkaupunki?",
    "id": "Apa ibu kota Prancis dan di mana itu?",
    "vi": "Thủ đô của Pháp là gì?",
    "ru": "Какая столица Франции?",
    "uk": "Яка столиця Франції?",
    "ja": "フランスの首都はどこですか？",
    "zh": "法国的首都是哪里？",
    "ko": "프랑스의 수도는 어디인가요?",
    "ar": "ما هي عاصمة فرنسا؟",
    "fa": "پایتخت فرانسه کجاست؟ چرا؟",
    "ur": "فرانس کا دارالحکومت کون سا ہے؟ یہ کہاں ہے؟ ٹھیک",
    "hi": "फ्रांस की राजधानी क्या है?",
    "el": "Ποια είναι η πρωτεύουσα της Γαλλίας;",
    "he": "מהי בירת צרפת?",
    "th": "เมืองหลวงของฝรั่งเศสคืออะไร",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_a_sentence_is_told_by_its_script_or_its_words(code: str) -> None:
    assert language(SENTENCES[code]) == code
    assert language(SENTENCES[code] * 200) == code
    assert language(SENTENCES[code].upper()) == code


@pytest.mark.parametrize("text", ["", "   ", "12345 + 7 = ?", "x = foo(bar)", "kubectl get pods", "🎉🎉🎉", "\ufffd\x00"])
def test_what_is_in_no_language_is_other(text: str) -> None:
    assert language(text) == OTHER


def test_foreign_words_in_a_sentence_do_not_make_its_language() -> None:
    assert language("Find the α such that the function f is continuous") == "en"
    assert language("Explain 你好 to me please, is this the right word") == "en"
    assert language("请用 Python 写一个 hello world 程序，并解释每一行") == "zh"


def test_letters_of_formulas_are_no_words() -> None:
    assert language("Let a, b, c, i, o, s, v and z be the sides of a triangle with a + b > c") == "en"


@given(st.text())
def test_any_text_has_an_answer(text: str) -> None:
    assert language(text) == OTHER or len(language(text)) == 2


@pytest.mark.parametrize("code", ["en", "de", "ru", "zh"])
def test_a_long_prompt_costs_no_more_than_a_short_one(code: str) -> None:
    """About 30 µs; the bound leaves room for a loaded machine."""
    text = SENTENCES[code] * 2_000
    assert min(timeit.repeat(lambda: language(text), number=100, repeat=5)) / 100 < 500e-6
