"""The policy that learns writes its turns: drawn from a transformers model until a tag closes. The gateway never imports it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from routers.learning.router_r1.episodes import Written

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from routers.learning.router_r1.episodes import Wanted

TAIL = 16
"""Tokens from the end among which a closing tag is looked for; none has more characters than these have."""


class TagClosed(StoppingCriteria):  # type: ignore[misc]
    """Stops each sequence as soon as one of the texts `stop` is in what was written since `start`."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], start: int) -> None:
        self._tokenizer, self._stop, self._start = tokenizer, tuple(stop), start
        self._closed: list[bool] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self._closed = self._closed or [False] * len(input_ids)
        written = input_ids[:, max(self._start, input_ids.shape[1] - TAIL) :].tolist()
        for place, ids in enumerate(written):
            if not self._closed[place]:
                text = self._tokenizer.decode(ids, skip_special_tokens=False)
                self._closed[place] = any(stop in text for stop in self._stop)
        return torch.tensor(self._closed, device=input_ids.device)


class ModelPolicy:
    """`opened`: gives the model as it is now, ready to generate. `temperature`: of the sampling; nothing else bends the chances, so that
    what is learned from was drawn from the model itself. `at_once`: contexts in one batch.
    """

    def __init__(
        self, opened: Callable[[], AbstractContextManager[Any]], tokenizer: Any, temperature: float = 1.0, at_once: int = 64
    ) -> None:
        self._opened, self._tokenizer = opened, tokenizer
        self._temperature, self._at_once = temperature, at_once

    def write(self, wanted: Sequence[Wanted]) -> list[Written]:
        # Alike lengths lie together, so that little is padded.
        order = sorted(range(len(wanted)), key=lambda place: len(wanted[place].context))
        found: dict[int, Written] = {}
        for start in range(0, len(order), self._at_once):
            places = order[start : start + self._at_once]
            found |= zip(places, self._batch([wanted[place] for place in places]), strict=True)
        return [found[place] for place in range(len(wanted))]

    def _batch(self, wanted: Sequence[Wanted]) -> list[Written]:
        longest = max(len(one.context) for one in wanted)
        stop = sorted({text for one in wanted for text in one.stop})
        with self._opened() as model, torch.no_grad():
            training = model.training
            model.eval()
            ends = _ends(model, self._tokenizer)
            pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else ends[0]
            ids = torch.tensor([[pad] * (longest - len(one.context)) + list(one.context) for one in wanted], device=model.device)
            seen = torch.tensor([[0] * (longest - len(one.context)) + [1] * len(one.context) for one in wanted], device=model.device)
            made = model.generate(
                input_ids=ids,
                attention_mask=seen,
                max_new_tokens=max(one.max_tokens for one in wanted),
                do_sample=True,
                temperature=self._temperature,
                top_k=0,
                top_p=1.0,
                pad_token_id=pad,
                eos_token_id=ends,
                use_cache=True,
                stopping_criteria=StoppingCriteriaList([TagClosed(self._tokenizer, stop, longest)]),
            )
            model.train(training)
        return [cut(one, row, ends, self._tokenizer) for one, row in zip(wanted, made[:, longest:].tolist(), strict=True)]


def cut(wanted: Wanted, ids: Sequence[int], ends: Sequence[int], tokenizer: Any) -> Written:
    """Up to the first token that ends it: one in which a tag closes, or one of `ends`, which end a message."""
    for count in range(1, min(len(ids), wanted.max_tokens) + 1):
        if ids[count - 1] in ends:
            return Written(tuple(ids[:count]), _text(ids[: count - 1], tokenizer), "stop")
        tail = tokenizer.decode(ids[max(0, count - TAIL) : count], skip_special_tokens=False)
        if any(stop in tail for stop in wanted.stop):
            return Written(tuple(ids[:count]), _text(ids[:count], tokenizer), "stop")
    kept = tuple(ids[: wanted.max_tokens])
    return Written(kept, _text(kept, tokenizer), "length")


def _text(ids: Sequence[int], tokenizer: Any) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a message."""
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    found: list[int] = [end for end in dict.fromkeys([*ends, tokenizer.eos_token_id]) if end is not None]
    if not found:
        raise ValueError("the policy has no token that ends a message")
    return found
