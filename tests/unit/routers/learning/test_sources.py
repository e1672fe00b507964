"""Public projects' files become the contract's table, or are refused with the place of what is wrong. Every question here is made up."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.cli.outcomes import FORMATS
from routers.learning.outcomes import load
from routers.learning.sources import READERS, llmrouter, mmlu_pro, routellm, routerarena, routerbench
from routers.learning.sources import files as source_files
from routers.learning.sources.models import known
from routers.learning.sources.rows import BadSource, Reading, Row, estimate_tokens, split_of
from routers.learning.sources.table import write

GPT, MIXTRAL = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"
SMALL, LARGE = "gemma-2-9b-it", "llama-3.1-nemotron-51b-instruct"


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def by_model(rows: Sequence[Row], query: str) -> dict[str, Row]:
    return {row.model: row for row in rows if row.query_id == query}


def answer(number: int, pred: str | None, **changed: Any) -> dict[str, Any]:
    whole = {
        "question_id": number,
        "question": f" Which fish number {number} sings?",
        "options": ["cod ", "none"],
        "answer": "B",
        "answer_index": 1,
        "category": "computer science",
        "pred": pred,
        "generated_text": " The answer is (B). ",
    }
    return {**whole, **changed}


def run(folder: Path, name: str, *answers: Any) -> Path:
    path = folder / "eval_results" / f"model_outputs_{name}_5shots.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"model_outputs_{name}_5shots.json", json.dumps(answers))
    return path


def mmlu_pro_folder(folder: Path) -> Path:
    run(folder, "jamba-1.5-large", answer(1, "B"), answer(2, "A", answer="A"), answer(3, "B", options=["eel", "pike"]))
    run(folder, "Meta-Llama-3_1-8B", "biology", answer(1, None, generated_text=None, model_outputs="  "), answer(2, "A"), answer(3, "B"))
    run(folder, "Meta-Llama-3-8B", answer(2, "B", question="Which fish number 2 sang?"))
    run(folder, "gpt-of-tomorrow", answer(1, "B"))
    return folder


def routellm_folder(folder: Path) -> Path:
    heading = f"prompt,{MIXTRAL},{GPT}"
    put(folder / routellm.GSM8K, f'{heading},{MIXTRAL}_response,{GPT}_response\n"Two, and two?",False,True," 5 fish","4 fish, then"\n')
    rows = 'One?\nAnswer:",True,False\n"One?\nAnswer:",False,False\n"Two?",True,True\n'
    put(folder / routellm.MMLU / "mmlu_ship_building.csv", f'{heading}\n"{rows}')
    return folder


def llmrouter_folder(folder: Path) -> Path:
    scores = {SMALL: 0.25, LARGE: 1}
    put(
        folder / llmrouter.ANSWERS[0],
        json.dumps([{"question": "Why rain?", "scores": scores}, {"question": "Why snow?", "scores": scores}]),
    )
    put(folder / llmrouter.ANSWERS[1], json.dumps([{"question": "Why rain?", "scores": {SMALL: 1, LARGE: 1}}]))
    put(folder / llmrouter.TASKS[0], '{"query": "Why rain?", "task_name": "weather"}\n\n{"query": "Why rain?", "task_name": "later"}\n')
    put(folder / llmrouter.TASKS[1], "")
    prices = {SMALL: {"input_price": 0.1, "output_price": 0.1}, LARGE: {"input_price": 0.9, "output_price": 0.8}}
    put(folder / llmrouter.PRICES, json.dumps(prices))
    return folder


def routerarena_folder(folder: Path) -> Path:
    def line(name: str, score: float | None, cost: float | None = 0.002) -> str:
        judged = None if score is None else {"score": score, "inference_cost": cost}
        usage = {"input_tokens": 7, "output_tokens": 3}
        return json.dumps({"global_index": name, "question": f"Tell {name}", "token_usage": usage, "evaluation_result": judged}) + "\n"

    put(
        folder / "cached_results/gemini-2.0-flash-001.jsonl",
        line("Knots_at sea_1", 0.5) + line("Knots_2", -0.25) + line("Knots_3", None) + line("Winds_1", 1),
    )
    put(folder / "cached_results/of-tomorrow.jsonl", line("Winds_1", 0))
    price = {"input_token_price_per_million": 0.1, "output_token_price_per_million": 0.4}
    put(folder / routerarena.PRICES, json.dumps({"gemini-2.0-flash-001": price}))
    return folder


BENCH = {
    "sample_id": ["tides.1", "tides.2"],
    "prompt": ["['Say:\\n', 'When is ebb?']", "[When is flood?]"],
    "eval_name": ["tides", "tides"],
    "claude-v2": [0.5, None],
    "claude-v2|total_cost": [0.01, None],
    "claude-v2|model_response": ["At noon.", None],
    "own-1": [1.0, 0.0],
    "own-1|total_cost": [0.0, 0.001],
}


def routerbench_file(folder: Path, suffix: str = ".csv", changed: dict[str, list[Any]] | None = None) -> Path:
    columns = {**BENCH, **(changed or {})}
    path = folder / f"bench{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
        return path
    cells = [["" if value is None else '"' + str(value) + '"' for value in row] for row in zip(*columns.values(), strict=True)]
    return put(path, "\n".join([",".join(columns), *(",".join(row) for row in cells)]) + "\n")


def test_mmlu_pro_has_one_key_for_three_revisions(tmp_path: Path) -> None:
    found = mmlu_pro.read(mmlu_pro_folder(tmp_path))
    first = by_model(found.rows, "mmlupro-00001")
    prompt = "Which fish number 1 sings?\nA. cod\nB. none"
    into = estimate_tokens(prompt)
    cost = round((into * 2 + 5 * 8) / 1e6, 12)
    assert first["jamba-1.5-large"] == Row("mmlupro-00001", "mmlupro/computer_science", prompt, "jamba-1.5-large", 1, cost, into, 5)
    assert (first["Llama-3.1-8B"].score, first["Llama-3.1-8B"].tokens_out) == (0, 1)
    mended = by_model(found.rows, "mmlupro-00002")
    assert {model: row.score for model, row in mended.items()} == {"jamba-1.5-large": 1, "Llama-3.1-8B": 1, "Llama-3-8B": 0}
    assert len({row.prompt for row in mended.values()}) == 1
    assert list(by_model(found.rows, "mmlupro-00003")) == ["jamba-1.5-large"]
    assert found.notes[:3] == [
        "2 answers are judged by a letter that was mended later",
        "1 answers to old options of 1 questions are left out",
        "1 entries that are no answers are left out",
    ]
    assert "model_outputs_gpt-of-tomorrow_5shots" in found.notes[3]
    assert [(model.name, model.price_basis) for model in found.models] == [
        ("Llama-3-8B", "derived"),
        ("Llama-3.1-8B", "derived"),
        ("jamba-1.5-large", "derived"),
    ]


def test_routellm_writes_one_token_on_mmlu(tmp_path: Path) -> None:
    found = routellm.read(routellm_folder(tmp_path))
    maths = by_model(found.rows, "routellm-gsm8k-0000")
    assert maths[GPT] == Row("routellm-gsm8k-0000", "routellm/gsm8k", "Two, and two?", GPT, 1, 0.00013, 4, 3)
    assert (maths[MIXTRAL].score, maths[MIXTRAL].tokens_out) == (0, 2)
    assert by_model(found.rows, "routellm-mmlu-ship_building-0000")[MIXTRAL].score == 1
    assert by_model(found.rows, "routellm-mmlu-ship_building-0001") == {}
    assert by_model(found.rows, "routellm-mmlu-ship_building-0002")[GPT].tokens_out == 1
    assert found.notes == ["1 prompts that stand twice in their subject are kept once"]


def test_llmrouter_has_nominal_costs(tmp_path: Path) -> None:
    found = llmrouter.read(llmrouter_folder(tmp_path))
    rain = by_model(found.rows, "llmrouter-00000")
    assert rain[SMALL] == Row(
        "llmrouter-00000", "llmrouter/weather", "Why rain?", SMALL, 0.25, round((3 * 0.1 + 200 * 0.1) / 1e6, 12), 3, None
    )
    assert rain[LARGE].cost_usd == pytest.approx((3 * 0.9 + 200 * 0.8) / 1e6)
    assert by_model(found.rows, "llmrouter-00001")[SMALL].dataset == "llmrouter/other"
    assert (len(found.rows), found.models[0].price_basis, found.models[0].context_window) == (4, "source", 8192)


def test_routerarena_measured_tokens_and_costs(tmp_path: Path) -> None:
    found = routerarena.read(routerarena_folder(tmp_path))
    flash = "gemini-2.0-flash-001"
    assert found.rows[0] == Row("routerarena-Knots_at_sea_1", "routerarena/Knots", "Tell Knots_at sea_1", flash, 0.5, 0.002, 7, 3)
    assert by_model(found.rows, "routerarena-Knots_2")[flash].score == 0
    assert by_model(found.rows, "routerarena-Knots_3") == {}
    assert len(by_model(found.rows, "routerarena-Winds_1")) == 2
    assert [(model.usd_per_1m_tokens_out, model.family) for model in found.models] == [(0.4, "gemini-2.0"), (None, None)]
    assert found.notes == ["1 answers that were not judged are left out", "1 scores below 0 count as 0"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_routerbench_in_both_forms(suffix: str, tmp_path: Path) -> None:
    found = routerbench.read(routerbench_file(tmp_path, suffix))
    ebb = by_model(found.rows, "routerbench-tides.1")
    assert ebb["claude-v2"] == Row("routerbench-tides.1", "routerbench/tides", "Say:\n\nWhen is ebb?", "claude-v2", 0.5, 0.01, 5, 2)
    assert (ebb["own-1"].cost_usd, ebb["own-1"].tokens_out) == (0, None)
    flood = by_model(found.rows, "routerbench-tides.2")
    assert (list(flood), flood["own-1"].prompt) == (["own-1"], "[When is flood?]")
    assert [(model.name, model.price_basis) for model in found.models] == [("claude-v2", "derived"), ("own-1", None)]


MAKERS: dict[str, Callable[[Path], Path]] = {
    "mmlu-pro": mmlu_pro_folder,
    "routellm": routellm_folder,
    "llmrouter": llmrouter_folder,
    "routerarena": routerarena_folder,
    "routerbench": routerbench_file,
}


def test_every_format_has_a_reader() -> None:
    assert set(FORMATS) == set(READERS) == set(MAKERS)


@pytest.mark.parametrize("name", FORMATS)
def test_the_command_writes_a_table_that_loads(name: str, tmp_path: Path) -> None:
    (tmp_path / "clone").mkdir()
    source, out = MAKERS[name](tmp_path / "clone"), tmp_path / "outcomes.parquet"
    done = CliRunner().invoke(app, ["outcomes", "import", name, str(source), "--out", str(out)])
    assert done.exit_code == 0, done.output
    reading = READERS[name](source)
    table = load(out, [model.name for model in reading.models])
    assert len(table) == len({row.query_id for row in reading.rows})
    assert pq.read_metadata(out).num_rows == len(reading.rows)
    assert f"{len(table)} questions (train " in done.output
    models = [json.loads(line) for line in (tmp_path / "models.jsonl").read_text().splitlines()]
    assert [model["name"] for model in models] == [model.name for model in reading.models]
    assert {"table", "family", "usd_per_1m_tokens_in", "usd_per_1m_tokens_out", "price_basis", "context_window", "description"} <= set(
        models[0]
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clone", "models.jsonl", "outcomes.parquet"]


def test_the_command_refuses_what_is_not_there(tmp_path: Path) -> None:
    def ended(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["outcomes", "import", *arguments])
        return done.exit_code, done.output

    out = str(tmp_path / "none" / "outcomes.parquet")
    code, said = ended("mmlupro", str(tmp_path), "--out", out)
    assert (code, "there is no format 'mmlupro'" in said, "mmlu-pro, routellm" in said) == (2, True, True)
    assert ended("routellm", str(tmp_path / "nowhere"), "--out", out)[0] == 2
    code, said = ended("llmrouter", str(tmp_path), "--out", out)
    assert (code, "train.json: there is no such file" in said) == (2, True)
    code, said = ended("routerbench", str(routerbench_file(tmp_path)), "--out", out)
    assert (code, "cannot be written" in said) == (1, True)


def torn(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


def swap(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


RUN = "eval_results/model_outputs_jamba-1.5-large_5shots.zip"
SHIP = f"{routellm.MMLU}/mmlu_ship_building.csv"
ARENA = "cached_results/gemini-2.0-flash-001.jsonl"
WRONG: list[tuple[str, Callable[[Path], object], str]] = [
    ("mmlu-pro", lambda f: torn(f / RUN), r"jamba-1\.5-large_5shots\.zip: is no whole zip"),
    ("mmlu-pro", lambda f: put(f / RUN, "version https://git-lfs.github.com/spec/v1"), "is a Git LFS pointer"),
    ("mmlu-pro", lambda f: run(f, "jamba-1.5-large", {"question_id": "x"}), "row 1: Expected `int`"),
    ("mmlu-pro", lambda f: run(f, "jamba-1.5-large", answer(1, "A"), answer(2, "A", answer="Z")), "row 2: the right letter 'Z' names none"),
    ("mmlu-pro", lambda f: run(f, "jamba-1.5-large", answer(1, "A"), answer(1, "A")), "row 2: question 1 is answered twice"),
    ("mmlu-pro", lambda f: run(f, "jamba-1.5-large", answer(1, "A", generated_text=None)), "row 1: has neither"),
    ("routellm", lambda f: (f / routellm.GSM8K).unlink(), "gsm8k_responses.csv: there is no such file"),
    ("routellm", lambda f: (f / SHIP).unlink(), "holds no mmlu_SUBJECT.csv"),
    ("routellm", lambda f: swap(f / SHIP, GPT, "gpt"), f"ship_building.csv: column '{GPT}' is missing"),
    (
        "routellm",
        lambda f: swap(f / SHIP, '"Two?",True,True', '"Two?",True,maybe'),
        "row 3: gpt-4-1106-preview is 'maybe', neither True nor",
    ),
    ("routellm", lambda f: swap(f / SHIP, '"Two?",True,True', '"Two?",True'), "row 3: has 2 cells, not 3"),
    ("routellm", lambda f: swap(f / SHIP, '"Two?",True,True', '"Two?,True,True'), "row 3: unexpected end of data"),
    ("routellm", lambda f: (f / SHIP).write_bytes(b"prompt\xff\n"), "is not UTF-8"),
    ("llmrouter", lambda f: torn(f / llmrouter.ANSWERS[0]), r"train\.json: is no whole JSON"),
    ("llmrouter", lambda f: swap(f / llmrouter.ANSWERS[0], "0.25", "1.25"), "row 1: score 1.25 is outside"),
    ("llmrouter", lambda f: swap(f / llmrouter.ANSWERS[0], '"question": "Why snow?", ', ""), "row 2: .*missing required field `question`"),
    ("llmrouter", lambda f: swap(f / llmrouter.ANSWERS[0], SMALL, "other"), "row 1: 'other' has no price"),
    ("llmrouter", lambda f: swap(f / llmrouter.TASKS[0], "{", "["), r"default_query_train\.jsonl: line 1: "),
    ("llmrouter", lambda f: put(f / llmrouter.PRICES, '{"a": ' * 100_000), "default_llm.json: is no whole JSON"),
    ("llmrouter", lambda f: swap(f / llmrouter.PRICES, "0.8", "-0.8"), "default_llm.json: Expected `float` >= 0"),
    ("routerarena", lambda f: swap(f / ARENA, "0.5", "1.5"), "line 1: score 1.5 is outside"),
    ("routerarena", lambda f: swap(f / ARENA, "Knots_2", "Knots_at sea_1"), "line 2: Knots_at sea_1 is answered twice"),
    ("routerarena", lambda f: swap(f / ARENA, '"input_tokens": 7', '"input_tokens": 70000000000'), "line 1: Expected `int` <="),
    ("routerarena", lambda f: torn(f / ARENA), r"gemini-2\.0-flash-001\.jsonl: line 3: "),
    ("routerarena", lambda f: (f / routerarena.PRICES).unlink(), "cost.json: there is no such file"),
]


@pytest.mark.parametrize(("name", "spoil", "message"), WRONG, ids=[f"{name}: {message}" for name, _, message in WRONG])
def test_spoiled_clones(name: str, spoil: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    folder = MAKERS[name](tmp_path)
    spoil(folder)
    with pytest.raises(BadSource, match=message):
        READERS[name](folder)


SPOILED: list[tuple[dict[str, list[Any]], str]] = [
    ({"claude-v2": ["good", None]}, r"row 1: claude-v2 is 'good', no number"),
    ({"own-1": [0, 1.5]}, "row 2, own-1: score 1.5 is outside"),
    ({"own-1|total_cost": [0, -1.0]}, r"row 2: own-1\|total_cost is -1"),
    ({"sample_id": ["a", "a"]}, "row 2: sample_id 'a' is empty or stands there already"),
    ({"prompt": ["", "b"]}, "row 1: prompt is empty"),
    ({"own-1": [None, None], "claude-v2": [None, None]}, "holds no scores"),
]


@pytest.mark.parametrize(("changed", "message"), SPOILED, ids=[message for _, message in SPOILED])
def test_spoiled_routerbench(changed: dict[str, list[Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadSource, match=message):
        routerbench.read(routerbench_file(tmp_path, ".csv", changed))


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="may be a pickle, which is never opened here; save its table as CSV or Parquet"):
        routerbench.read(put(tmp_path / "routerbench_0shot.pkl", "x"))
    with pytest.raises(BadSource, match=r"is neither \.csv nor \.parquet"):
        routerbench.read(tmp_path)
    with pytest.raises(BadSource, match="is no whole Parquet file"):
        routerbench.read(put(tmp_path / "torn.parquet", "PAR1 and no more"))
    with pytest.raises(BadSource, match="column 'eval_name' is missing"):
        routerbench.read(put(tmp_path / "bench.csv", "sample_id,prompt\na,b\n"))
    with pytest.raises(BadSource, match="has no model"):
        routerbench.read(put(tmp_path / "bench.csv", "sample_id,prompt,eval_name,m\na,b,c,1\n"))


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = mmlu_pro_folder(tmp_path)
    monkeypatch.setattr(source_files, "MAX_BYTES", 400)
    with pytest.raises(BadSource, match="is larger than 400 bytes"):
        mmlu_pro.read(clone)
    monkeypatch.setattr(source_files, "MAX_BYTES", 100_000)
    with zipfile.ZipFile(clone / RUN, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.json", b" " * 200_000)
    with pytest.raises(BadSource, match="unpacks to more than 100000 bytes"):
        mmlu_pro.read(clone)
    with zipfile.ZipFile(clone / RUN, "w") as archive:
        archive.writestr("a.json", "[]")
        archive.writestr("b.json", "[]")
    with pytest.raises(BadSource, match="holds 2 JSON files, not one"):
        mmlu_pro.read(clone)


def test_equal_prompts_are_in_one_split() -> None:
    splits = [split_of(f"How many boats, {number}?") for number in range(4000)]
    shares = [splits.count(name) / len(splits) for name in ("test", "validation", "train")]
    assert shares == pytest.approx([0.4, 0.1, 0.5], abs=0.03)
    assert all(split_of(f"  HOW many\n boats,\t{number}? ") == splits[number] for number in range(200))
    assert [split_of(text) for text in ("a", "b", "c")] == ["train", "validation", "train"]


def test_what_cannot_be_written_leaves_the_old_table(tmp_path: Path) -> None:
    out = put(tmp_path / "outcomes.parquet", "old")
    with pytest.raises(pa.ArrowInvalid):
        write(Reading([Row("q", "d", "p", "m", 1.0, None, 2**40, None)], [], []), out)
    assert (out.read_text(), [path.name for path in tmp_path.iterdir()]) == ("old", ["outcomes.parquet"])


def test_the_list_of_models_is_whole() -> None:
    tables = {name: known(name) for name in ("mmlupro", "routellm", "llmrouter", "routerarena", "routerbench")}
    assert {name: len(models) for name, models in tables.items()} == {
        "mmlupro": 29,
        "routellm": 2,
        "llmrouter": 9,
        "routerarena": 3,
        "routerbench": 11,
    }
    for name in ("mmlupro", "routellm", "routerbench"):
        assert all(model.usd_per_1m_tokens_in and model.usd_per_1m_tokens_out for model in tables[name].values())
    assert {*mmlu_pro.NEWEST, *mmlu_pro.NEWER} <= tables["mmlupro"].keys()
