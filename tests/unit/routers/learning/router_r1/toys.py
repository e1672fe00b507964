"""A tokenizer that one can reckon with by hand, questions, and a stage on which episodes are played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from routers.api import Message, Model, Price
from routers.learning.router_r1.episodes import Stage, Wanted, Written
from routers.learning.router_r1.questions import Question, Said
from routers.planners.router_r1 import RouterR1

END = 0x110000
"""The token that ends a message; its text is "[/]"."""
LONG = {END: "[/]", 0x110001: ">\n", 0x110002: "></", 0x110003: "</think>"}
"""Tokens of several characters. All others are one character each."""


class ToyTokens:
    """A character is a token, but for those of LONG, which are never made of a text."""

    def render(self, messages: Sequence[Message], continues: bool) -> str:
        text = "".join(f"[{role}]{said}[/]" for role, said in messages)
        return text.removesuffix("[/]") if continues else f"{text}[assistant]"

    def encode(self, text: str) -> list[int]:
        return [ord(sign) for sign in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(LONG.get(one) or chr(one) for one in ids)


TOKENS = ToyTokens()
MODELS = {name: Model(name, Price(1, 1), description=f"the {name} one") for name in ("large", "small")}
QUESTION = Question(
    "q-1", "Which letter?\nA. one\nB. two", "train", "AB", "B", {"small": Said("(A)", 0.01, 3), "large": Said("It is (B).", 0.09, 10)}
)


def stage(max_asks: int = 4, policy_tokens: int = 600, window: int = 100_000, seed: int = 0) -> Stage:
    planner = RouterR1("policy", max_asks, policy_tokens)
    return Stage(planner, MODELS, {"small": 0.01, "large": 0.09}, TOKENS, window, seed)


@dataclass
class Told:
    """A policy that writes what it is told, by place of the episode: texts, or tokens. `heard`: what it was asked to write."""

    scripts: Sequence[Sequence[str | Sequence[int]]]
    finish: str = "stop"
    heard: list[Wanted] = field(default_factory=list)

    def write(self, wanted: Sequence[Wanted]) -> list[Written]:
        return [self._one(one) for one in wanted]

    def _one(self, wanted: Wanted) -> Written:
        turn = sum(one.place == wanted.place for one in self.heard)
        self.heard.append(wanted)
        said = self.scripts[wanted.place][turn]
        ids = TOKENS.encode(said) if isinstance(said, str) else list(said)
        text = TOKENS.decode([one for one in ids if one != END])
        return Written(tuple(ids), text, "length" if self.finish == "length" else "stop")
