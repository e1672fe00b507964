"""Which tokens may teach the policy, by masks that were written by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from routers.learning.router_r1.chains import PROBE, Chain, ChatTokens, Row
from tests.unit.routers.learning.router_r1.toys import END, LONG, TOKENS

CLOSES, OVERSHOOTS = (one for one in LONG if LONG[one] in (">\n", "></"))


def shown(row: Row) -> str:
    """The completion with what the policy wrote in capitals; all texts of these tests are in small letters."""
    return "".join(
        TOKENS.decode([one]).upper() if mine else TOKENS.decode([one]) for one, mine in zip(row.completion, row.mask, strict=True)
    )


def chain(*steps: str | Sequence[int]) -> Chain:
    """Contexts (texts) and what was written to them (tokens), in turn."""
    made = Chain(TOKENS)
    for step in steps:
        if isinstance(step, str):
            made.context(step)
        else:
            made.write(step)
    return made


def test_what_stands_between_turns_is_masked() -> None:
    made = chain("[user]q[assistant]", TOKENS.encode("ab"), "[user]q[assistant]ab<i>x</i>", TOKENS.encode("c"))
    assert made.row == Row(
        tuple(TOKENS.encode("[user]q[assistant]")),
        tuple(TOKENS.encode("ab<i>x</i>c")),
        (1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1),
    )
    assert made.row.written == 3
    assert made.number == 1


def test_the_context_is_all_tokens_so_far() -> None:
    made = chain("q", TOKENS.encode("ab"))
    assert made.context("qab<i>") == TOKENS.encode("qab<i>")


def test_a_token_that_says_more_than_the_tag_is_kept_where_more_of_it_follows() -> None:
    """The closing token is ">" and a line feed, and what the gateway puts in begins with that line feed."""
    made = chain("q", [*TOKENS.encode("</s"), CLOSES], "q</s>\n<i>x", TOKENS.encode("c"))
    assert shown(made.row) == "</S>\n<i>xC"
    assert made.row.mask == (1, 1, 1, 1, 0, 0, 0, 0, 1)


def test_a_token_that_says_something_else_than_what_follows_is_written_anew_and_masked() -> None:
    made = chain("q", [*TOKENS.encode("</s"), OVERSHOOTS], "q</s>\n<i>", TOKENS.encode("c"))
    assert TOKENS.decode(made.row.completion) == "</s>\n<i>c"
    assert made.row.mask == (1, 1, 1, 0, 0, 0, 0, 0, 1)


def test_a_token_that_ended_the_message_is_its_own_where_the_message_ends_there() -> None:
    repaired = chain("q", [*TOKENS.encode("ab"), END], "qab[/][user]again[/][assistant]", TOKENS.encode("c"))
    assert shown(repaired.row) == "AB[/][user]again[/][assistant]C"
    continued = chain("q", [*TOKENS.encode("ab"), END], "qab</s><i>", TOKENS.encode("c"))
    assert shown(continued.row) == "AB</s><i>C"
    assert continued.row.mask == (1, 1, 0, 0, 0, 0, 0, 0, 0, 1)


def test_another_beginning_is_another_chain() -> None:
    """A broken turn is forgotten once it was repaired: what is written after that stands behind other tokens."""
    made = chain("q", TOKENS.encode("bad"), "qbad[/]again", TOKENS.encode("ok"), "qok<i>", TOKENS.encode("c"))
    assert made.row == Row(tuple(TOKENS.encode("qok<i>")), tuple(TOKENS.encode("c")), (1,))
    assert made.number == 2


class Template:
    """A tokenizer whose chat template does something to what the assistant said."""

    def __init__(self, change: str) -> None:
        self.chat_template = change

    def apply_chat_template(
        self, messages: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool, continue_final_message: bool
    ) -> str:
        last = messages[-1]["content"]
        if self.chat_template == "hides":
            raise ValueError("the final message does not appear")
        return f"[user]{last.strip() if self.chat_template == 'strips' else last}"

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return TOKENS.encode(text)

    def decode(self, ids: list[int], skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        return TOKENS.decode(ids)


@pytest.mark.parametrize(("change", "why"), [("", "no chat template"), ("hides", "does not appear"), ("strips", "changes what it wrote")])
def test_a_template_that_does_not_hand_on_what_was_written_is_refused(change: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ChatTokens(Template(change))


def test_a_template_that_hands_it_on_is_used() -> None:
    tokens = ChatTokens(Template("keeps"))
    assert tokens.decode(tokens.encode(tokens.render((("user", "a"), ("assistant", PROBE)), continues=True))).endswith(PROBE)
