"""Teaches a small model to write what it is shown: teach.py MODEL LESSONS OUT. Runs in vLLM's environment, which has torch.

LESSONS: JSON, a list of `{"messages": [{"role", "content"}…], "continues": bool, "says": text}`. The chat template makes the prompt as it
does when the model is served, and only what the model is to say counts. The lower layers stay as they are, so that each lesson goes
through them but once.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

LAYERS, EPOCHS, RATE, ENOUGH = 4, 12, 6e-4, 0.05
"""Layers that learn; at most so many times through all lessons; the learning rate; the mean loss at which it knows them."""


@dataclass(frozen=True)
class Lesson:
    """`below`: what the layers that do not learn make of prompt and words, (1, n, d). `ids`: of the words alone, (m,)."""

    below: torch.Tensor
    ids: torch.Tensor


def prepared(model: Any, tokenizer: Any, shown: dict[str, Any]) -> Lesson:
    how = {"continue_final_message": True} if shown["continues"] else {"add_generation_prompt": True}
    prompt = tokenizer.apply_chat_template(shown["messages"], tokenize=False, **how)
    asked, said = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, shown["says"]))
    with torch.no_grad():
        states = model.model(torch.tensor([asked + said]), output_hidden_states=True, use_cache=False).hidden_states
    return Lesson(states[-LAYERS - 1].clone(), torch.tensor(said))


def loss(model: Any, lesson: Lesson) -> torch.Tensor:
    """Mean over the words, in nats a token. `model` has but the layers that learn."""
    hidden = model.model(inputs_embeds=lesson.below, use_cache=False).last_hidden_state[0, -len(lesson.ids) - 1 : -1]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden), lesson.ids)


def teach(model: Any, lessons: list[Lesson]) -> None:
    learning = list(model.model.layers.parameters())
    for parameter in learning:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(learning, RATE, weight_decay=0.0)
    began = time.monotonic()
    for epoch in range(EPOCHS):
        total = 0.0
        for place in torch.randperm(len(lessons)).tolist():
            found = loss(model, lessons[place])
            found.backward()
            torch.nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            total += found.item() / len(lessons)
        print(f"epoch {epoch}: mean loss {total:.4f} after {time.monotonic() - began:.0f} s", flush=True)
        if total < ENOUGH:
            return


def main() -> None:
    source, lessons, target = (Path(argument) for argument in sys.argv[1:4])
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    model.requires_grad_(False)
    shown = [prepared(model, tokenizer, one) for one in json.loads(lessons.read_text(encoding="utf-8"))]
    print(f"{len(shown)} lessons, {sum(len(lesson.ids) for lesson in shown)} tokens to learn", flush=True)
    whole = model.model.layers
    model.model.layers = whole[-LAYERS:]
    teach(model, shown)
    model.model.layers = whole
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    main()
