"""What TRL does with the planner's episodes: the loss, the mask, the checkpoints, and the folder that is left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from routers.api import Model, Price
from routers.learning.outcomes import load as load_outcomes
from routers.learning.router_r1 import grpo
from routers.learning.router_r1.chains import ChatTokens, Row
from routers.learning.router_r1.course import CURVE, Course, Point, read_curve
from routers.learning.router_r1.episodes import RecordedExperts, Stage, Wanted, play
from routers.learning.router_r1.questions import Question, load, mean_costs
from routers.learning.router_r1.reward import Rewards
from routers.learning.router_r1.scripted import ScriptedPolicy, transcripts
from routers.learning.router_r1.training import train
from routers.learning.router_r1.writing import TagClosed, cut
from routers.planners.router_r1 import RouterR1
from routers.planners.router_r1.grammar import STOPS
from tests.grpo import beginner
from tests.unit.routers.learning.router_r1.sums import EXPERTS, write

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
MODELS = {name: Model(name, Price(price, price), description=told) for name, (price, told) in EXPERTS.items()}
SHORT = Course("", steps=2, batch=4, group=2, at_once=2, rate=1e-4, max_asks=2, policy_tokens=24, layers=2, save_every=1)


def questions(folder: Path) -> tuple[Question, ...]:
    outcomes, answers = write(folder, 20)
    return load(answers, load_outcomes(outcomes))


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> tuple[Question, ...]:
    return questions(tmp_path_factory.mktemp("sums"))


@pytest.fixture(scope="session")
def tiny(smollm: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model of two layers with SmolLM's tokenizer, for what needs no words that make sense."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "tie_word_embeddings": True, "max_position_embeddings": 2048}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **tokens)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def stage(policy: grpo.Policy, sums: tuple[Question, ...], **bounds: int) -> Stage:
    tokens = ChatTokens(policy.tokenizer)
    return Stage(RouterR1("policy", **bounds), MODELS, mean_costs(sums, list(MODELS)), tokens, policy.window)


def run(course: Course, sums: tuple[Question, ...], folder: Path, target: Path | None = None) -> tuple[Point, ...]:
    curve, save = train(course, sums, MODELS, RecordedExperts(), folder, "sha", lambda _: None)
    if target is not None:
        save(target)
    return curve


def state(folder: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    return found


def test_a_real_model_learns_for_two_steps(smollm: str, sums: tuple[Question, ...], tmp_path: Path) -> None:
    course = replace(SHORT, policy=smollm, warm_up=2, warm_rate=1e-4)
    curve = run(course, sums, tmp_path / "run", tmp_path / "policy")
    assert [one.step for one in curve] == [1, 2]
    for one in curve:
        assert -1 <= one.reward <= 1
        assert one.loss is not None
        assert torch.isfinite(torch.tensor([one.loss, one.kl, one.norm])).all()
        assert one.tokens > 0
    assert read_curve(tmp_path / "run" / CURVE) == list(curve)
    before, after = state(tmp_path / "run" / grpo.START), state(tmp_path / "policy")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.startswith(("model.layers.28.", "model.layers.29.")) for name in changed), "the other layers stay"
    assert AutoTokenizer.from_pretrained(tmp_path / "policy").chat_template


class Given:
    """Episodes that were played elsewhere."""

    def __init__(self, rows: Sequence[Row], rewards: Sequence[float]) -> None:
        self._told = {"prompt_ids": [list(row.prompt) for row in rows], "completion_ids": [list(row.completion) for row in rows]}
        self._told |= {"env_mask": [list(row.mask) for row in rows]}
        self._rewards = list(rewards)

    def __call__(self, *_told: object) -> dict[str, object]:
        return {**self._told, "logprobs": None, "value": self._rewards}


def test_the_trainers_gradient_is_that_of_the_written_tokens_alone(tiny: str, sums: tuple[Question, ...], tmp_path: Path) -> None:
    """Against the loss as it is written down, −advantage · log-chance over the written tokens, with a gradient of 0 at all others."""
    policy = grpo.load(tiny)
    row = transcripts(stage(policy, sums), sums[:1], 600, 4, seed=1)[0]
    assert 0 < row.written < len(row.completion)
    half = len(row.completion) // 2
    rows = [row, replace(row, completion=row.completion[:half], mask=row.mask[:half])]
    rollouts = grpo.Rollouts(stage(policy, sums), sums, RecordedExperts(), Rewards(0.5), SHORT)
    course = replace(SHORT, batch=2, group=2, at_once=2, layers=0, kl=0.0)
    trainer = grpo.trainer_of(course, grpo.load(tiny), rollouts, len(sums), tmp_path, lambda _: None)
    trainer.rollout_func = Given(rows, [1.0, 0.0])
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    inputs = trainer._generate_and_score_completions([{"prompt": "0"}, {"prompt": "0"}])
    trainer.compute_loss(trainer.model, inputs).backward()
    assert inputs["tool_mask"][0].tolist() == list(row.mask)
    assert inputs["advantages"].tolist() == pytest.approx([0.5**0.5, -(0.5**0.5)], rel=1e-3), "of rewards 1 and 0, their sd being 0.7071"

    loss = torch.zeros(())
    for one, advantage in zip(rows, inputs["advantages"].tolist(), strict=True):
        ids, written = torch.tensor([[*one.prompt, *one.completion]]), torch.tensor(one.mask, dtype=torch.bool)
        logits = policy.model(input_ids=ids).logits[0, len(one.prompt) - 1 : -1]
        chosen = torch.log_softmax(logits, dim=-1).gather(1, ids[0, len(one.prompt) :, None])[:, 0]
        part = -advantage * chosen[written].sum() / sum(other.written for other in rows)
        by_token = torch.autograd.grad(part, logits, retain_graph=True)[0].abs().sum(dim=1)
        assert (by_token[~written] == 0).all()
        assert (by_token[written] > 0).all()
        loss = loss + part
    loss.backward()
    found = dict(trainer.accelerator.unwrap_model(trainer.model).named_parameters())
    for name, weight in policy.model.named_parameters():
        assert torch.allclose(found[name].grad, weight.grad, atol=1e-5), name


def test_what_an_expert_said_teaches_only_by_being_read(tiny: str, sums: tuple[Question, ...], tmp_path: Path) -> None:
    """A row of which nothing was written has no gradient at all."""
    policy = grpo.load(tiny)
    row = transcripts(stage(policy, sums), sums[:1], 600, 4, seed=1)[0]
    silent = replace(row, mask=(0,) * len(row.mask))
    rollouts = grpo.Rollouts(stage(policy, sums), sums, RecordedExperts(), Rewards(0.5), SHORT)
    trainer = grpo.trainer_of(replace(SHORT, batch=2, layers=0), policy, rollouts, len(sums), tmp_path, lambda _: None)
    trainer.rollout_func = Given([silent, silent], [1.0, 0.0])
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    trainer.compute_loss(trainer.model, trainer._generate_and_score_completions([{"prompt": "0"}, {"prompt": "0"}])).backward()
    grads = [one.grad for one in trainer.accelerator.unwrap_model(trainer.model).parameters() if one.grad is not None]
    assert grads
    assert all((grad == 0).all() for grad in grads)


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(tiny: str, sums: tuple[Question, ...], tmp_path: Path) -> None:
    course = replace(SHORT, policy=tiny, steps=3, layers=0, rate=1e-2, warm_up=4, warm_rate=1e-2)
    whole = run(course, sums, tmp_path / "whole", tmp_path / "a")
    run(replace(course, steps=1), sums, tmp_path / "parts")
    again = run(course, sums, tmp_path / "parts", tmp_path / "b")
    assert [one.step for one in again] == [1, 2, 3]
    for one, two in zip(whole, again, strict=True):
        assert replace(one, seconds=0) == replace(two, seconds=0)
    first, second = state(tmp_path / "a"), state(tmp_path / "b")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert json.loads((tmp_path / "parts" / "checkpoint-3" / "costs.json").read_text()) == json.loads(
        (tmp_path / "whole" / "checkpoint-3" / "costs.json").read_text()
    )


def test_adapters_are_merged_into_what_is_served(tiny: str, sums: tuple[Question, ...], tmp_path: Path) -> None:
    course = replace(SHORT, policy=tiny, steps=1, layers=0, lora=4)
    run(course, sums, tmp_path / "run", tmp_path / "policy")
    assert not (tmp_path / "policy" / "adapter_config.json").exists()
    assert state(tmp_path / "policy").keys() == state(Path(tiny)).keys()


def test_what_is_no_model_is_refused(tmp_path: Path, sums: tuple[Question, ...]) -> None:
    with pytest.raises(ValueError, match="no language model can be loaded"):
        run(replace(SHORT, policy=str(tmp_path)), sums, tmp_path / "run")


def test_layers_that_there_are_not_cannot_learn(tiny: str) -> None:
    with pytest.raises(ValueError, match="has 2 layers, so 3 of them"):
        grpo.load(tiny, 3)


def test_imitation_makes_transcripts_likely(tiny: str, sums: tuple[Question, ...]) -> None:
    policy = grpo.load(tiny)
    rows = transcripts(stage(policy, sums), sums[:4], 600, 4, seed=0) * 8
    first = grpo.imitate(policy, rows[:4], 1e-2, lambda _: None)
    assert grpo.imitate(policy, rows, 1e-2, lambda _: None) < first - 1


@pytest.mark.parametrize(
    ("drawn", "most", "text", "finish"),
    [
        ("<think>?</think>\n<search>euler: a</search> and more", 99, "<think>?</think>\n<search>euler: a</search>", "stop"),
        ("<answer>B</answer>\n\nBut", 99, "<answer>B</answer>", "stop"),
        ("<answer>B<|im_end|>rest", 99, "<answer>B", "stop"),
        ("<think>a long thought", 4, "<think>a", "length"),
    ],
)
def test_a_turn_ends_with_the_token_in_which_its_tag_closes(smollm: str, drawn: str, most: int, text: str, finish: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    ids = tokenizer.encode(drawn, add_special_tokens=False)
    found = cut(Wanted(0, (), (), False, most, STOPS), ids, [tokenizer.eos_token_id], tokenizer)
    assert (found.text.rstrip(), found.finish) == (text, finish)
    assert list(found.ids) == ids[: len(found.ids)]
    closed = TagClosed(tokenizer, STOPS, start=1)
    flags = [bool(closed(torch.tensor([[5, *ids[:count]]]), None)[0]) for count in range(1, len(ids) + 1)]
    assert flags.index(True) + 1 == len(found.ids) if any(flags) else "</" not in text


def test_scripts_and_models_share_one_tokenizer(smollm: str, sums: tuple[Question, ...]) -> None:
    """What a script wrote is found again in the row, token by token, and nothing else counts."""
    policy = grpo.load(smollm)
    of = stage(policy, sums)
    turns = ["<think>?</think>\n<search>euler: a</search>", "<answer>B</answer>"]
    row = play(of, sums[:1], ScriptedPolicy([turns], of.tokens), RecordedExperts())[0].row
    mine = [token for token, kept in zip(row.completion, row.mask, strict=True) if kept]
    assert mine == [*of.tokens.encode(turns[0]), *of.tokens.encode(turns[1])]
    others = of.tokens.decode([token for token, kept in zip(row.completion, row.mask, strict=True) if not kept])
    assert others == f"\n<information>({sums[0].right})</information>\n"


def test_rewards_teach_the_grammar(sums: tuple[Question, ...], tmp_path: Path) -> None:
    """A beginner that has seen a few scripts keeps to the grammar now and then; after some updates, more often. Means over five steps."""
    policy = beginner.write(tmp_path / "beginner", sums, MODELS, 64)
    course = Course(
        policy, steps=20, batch=16, group=4, at_once=16, rate=3e-4, max_asks=2, policy_tokens=64, warm_up=150, warm_rate=1e-3, save_every=99
    )
    curve = run(course, sums, tmp_path / "run")
    first, last = (sum(one.clean for one in part) / 5 for part in (curve[:5], curve[-5:]))
    assert last > first + 0.1, [one.clean for one in curve]
    assert sum(one.reward for one in curve[-5:]) > sum(one.reward for one in curve[:5])
