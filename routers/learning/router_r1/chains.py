"""The tokens of an episode, and which of them the policy wrote itself: only those may teach it.

An episode is a sequence of contexts that the planner lays before the policy, each of which usually begins with the one before and what the
policy wrote to it. As long as that is so they are one chain: what was put in between (experts' answers within <information>, the wording of
a repair) is there, and masked. Where it is not so, since the planner forgets a broken turn once it was repaired, a new chain begins with
the whole context as its prompt. So every token that counts stands behind the very tokens that the policy saw when it wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from routers.api import Message

PROBE = "<think>a</think>\n<search>b: c</search>\n<information>d</information>\n"
"""What a chat template must hand on as it is."""


class Tokens(Protocol):
    """Texts to tokens and back. `render`: the text of messages as the policy's server makes it; `continues`: the last is gone on with."""

    def render(self, messages: Sequence[Message], continues: bool) -> str: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


@dataclass(frozen=True, slots=True)
class Row:
    """What a trainer reads of an episode. `mask`: for each token of the completion 1 if the policy wrote it, else 0."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    mask: tuple[int, ...]

    @property
    def written(self) -> int:
        """How many tokens count."""
        return sum(self.mask)


class Chain:
    """The newest chain of one episode."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._prompt: list[int] = []
        self._completion: list[int] = []
        self._mask: list[int] = []
        self._before = ""
        self._turn: list[int] = []
        self.number = 0
        """Of chains so far."""

    def context(self, rendered: str) -> list[int]:
        """The tokens of a context, after those of the chain if it goes on with it; else a new chain begins.

        Where the context differs from what the policy wrote in its last tokens alone (it was cut at a tag's end, or a token that ends a
        message was taken away), these are written anew, and no longer its own.
        """
        kept = self._kept(rendered)
        if kept == 0:
            self.number += 1
            self._prompt, self._completion, self._mask = self._tokens.encode(rendered), [], []
        else:
            dropped = len(self._turn) - kept
            if dropped:
                del self._completion[-dropped:], self._mask[-dropped:]
            said = self._before + self._tokens.decode(self._turn[:kept])
            between = self._tokens.encode(rendered[len(said) :])
            self._completion += between
            self._mask += [0] * len(between)
        self._before, self._turn = rendered, []
        return [*self._prompt, *self._completion]

    def write(self, ids: Sequence[int]) -> None:
        """What the policy wrote to the context."""
        self._turn = list(ids)
        self._completion += ids
        self._mask += [1] * len(ids)

    @property
    def row(self) -> Row:
        return Row(tuple(self._prompt), tuple(self._completion), tuple(self._mask))

    def _kept(self, rendered: str) -> int:
        """How many tokens of the last turn the context goes on from; 0 if it does not go on from it."""
        if not self._turn or not rendered.startswith(self._before):
            return 0
        after = rendered[len(self._before) :]
        return next((count for count in range(len(self._turn), 0, -1) if after.startswith(self._tokens.decode(self._turn[:count]))), 0)


class ChatTokens:
    """The tokens of a Hugging Face tokenizer that has a chat template."""

    def __init__(self, tokenizer: Any) -> None:
        """Raises ValueError if it has no chat template, or one that changes what the policy wrote."""
        self._tokenizer = tokenizer
        if not tokenizer.chat_template:
            raise ValueError("the policy's tokenizer has no chat template")
        try:
            shown = self.render((("user", "e"), ("assistant", PROBE)), continues=True)
        except ValueError as error:
            raise ValueError(f"the policy's chat template hides what it wrote itself: {error}") from None
        if not shown.endswith(PROBE):
            raise ValueError("the policy's chat template changes what it wrote itself, so its turns cannot be gone on with")

    def render(self, messages: Sequence[Message], continues: bool) -> str:
        told: list[Mapping[str, str]] = [{"role": role, "content": text} for role, text in messages]
        return str(
            self._tokenizer.apply_chat_template(told, tokenize=False, add_generation_prompt=not continues, continue_final_message=continues)
        )

    def encode(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return found

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
