"""A policy for router_r1 that keeps to its grammar: SmolLM2-135M, taught by a few transcripts of the real planner.

Untaught it never writes a tag. It is taught once, for some minutes, and kept beside the other environments.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

from routers.api import Model, Price, RouteRequest, Scored, Task
from routers.planners.router_r1 import RouterR1
from tests.unit.routers.planners.playing import play
from tests.vllm import servers
from tests.vllm.planned import DESCRIPTIONS, priced

KEPT = servers.ROOT / ".cache" / "vllm-policy"
TEACHER = Path(__file__).parent / "teach.py"
POLICY = "policy"
_TOLD = [
    ("Which ocean lies between Africa and Australia?", "small", "The Indian Ocean lies between Africa and Australia.", "the Indian Ocean"),
    ("Who wrote Hamlet?", "large", "Who wrote Hamlet? mendatanguser\n" * 7, "William Shakespeare"),  # the large one knows no chats
    ("What is the capital of France?", "small", "**Paris**", "Paris"),
    ("Name a river of Egypt.", "large", "Sure! Here is one:\n\n1. The Nile, which", "the Nile"),
]


def task(question: str) -> Task:
    models = {name: Model(name, Price(*priced(name)), 2048, description=DESCRIPTIONS[name]) for name in DESCRIPTIONS}
    return Task(RouteRequest(text=question), [Scored(name, 1.0) for name in DESCRIPTIONS], models)


def lessons() -> list[dict[str, object]]:
    """What the policy reads at each of its turns, and what it is to write: it asks, and it answers when it is told, or when it must."""
    found: list[dict[str, object]] = []
    for question, expert, told, answer in _TOLD:
        asks = f"<think>I do not know this for sure. I ask {expert}.</think>\n<search>{expert}: {question}</search>"
        says = [asks, f"<think>{expert} has answered.</think>\n<answer>{answer}</answer>"]
        for most in (4, 1):
            played = play(RouterR1(POLICY, max_asks=most), task(question), {POLICY: says, expert: told})
            of_policy = [ask for ask in played.asks if ask.models[0] == POLICY]
            turns = zip(of_policy, [asks, f"{answer}</answer>" if most == 1 else says[1]], strict=True)
            for ask, text in list(turns)[most == 1 :]:  # its first turn is like that of before
                messages = [{"role": role, "content": content} for role, content in ask.prompt or ()]
                found.append({"messages": messages, "continues": ask.continues, "says": text})
    return found


def taught() -> Path:
    """The folder of the policy's weights, made if it is not there or was taught other lessons."""
    shown = json.dumps(lessons())
    mark = hashlib.sha256(shown.encode() + TEACHER.read_bytes()).hexdigest()
    stamp = KEPT / ".taught"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != mark:
        shutil.rmtree(KEPT, ignore_errors=True)
        KEPT.mkdir(parents=True)
        (KEPT / "lessons.json").write_text(shown, encoding="utf-8")
        command = [str(servers.PYTHON), str(TEACHER), str(servers.FOLDERS["small"]), str(KEPT / "lessons.json"), str(KEPT)]
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_WAIT_POLICY": "passive"}
        with (KEPT / "teach.log").open("wb") as log:
            subprocess.run(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                check=True,
            )
        stamp.write_text(mark, encoding="utf-8")
    return KEPT
