"""A policy that is made here: a small model of random weights, and a tokenizer that was made of the texts of its episodes alone.

It knows no language, but it is a hundred times faster than the smallest real model, so that it can learn for tens of steps in a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from routers.api import Model
from routers.learning.router_r1.episodes import Stage
from routers.learning.router_r1.questions import Question, mean_costs
from routers.learning.router_r1.scripted import script
from routers.planners.router_r1 import RouterR1
from tests.unit.routers.learning.router_r1.toys import ToyTokens

TURNS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = 1500
SIZES = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4}


def write(folder: Path, questions: Sequence[Question], experts: dict[str, Model], turn_tokens: int) -> str:
    """Writes model and tokenizer into a folder and returns its name. The same for the same arguments."""
    texts = [text for question in questions for text in _texts(question, experts, turn_tokens)]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    marks = ["<|im_end|>", "<|im_start|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=WORDS, special_tokens=marks, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=marks[0], pad_token=marks[0], bos_token=marks[1])
    tokenizer.chat_template = TURNS
    torch.manual_seed(0)
    tokens = {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0, "max_position_embeddings": 2048}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SIZES, **tokens)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _texts(question: Question, experts: dict[str, Model], turn_tokens: int) -> list[str]:
    stage = Stage(RouterR1("policy"), experts, mean_costs([question], list(experts)), ToyTokens(), 1_000_000)
    turns = script(question, sorted(experts), turn_tokens, 2, 4, Random(question.id))
    return [stage.opening(question), *turns, *(one.text for one in question.said.values())]
