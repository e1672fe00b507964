"""Real vLLM servers on the CPU, as processes of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import free_port, process

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
FOLDERS = {"small": ROOT / ".models" / "smollm2-135m", "large": ROOT / ".models" / "gemma3-270m"}
BOOT_SECONDS = 900  # three of them beside other work on two processors take minutes


def missing() -> str | None:
    """Why no vLLM can be started here; None if it can."""
    needed = [PYTHON, *(folder / "config.json" for folder in FOLDERS.values())]
    absent = [str(path.relative_to(ROOT)) for path in needed if not path.exists()]
    return f"run scripts/vllm-environment.sh first: {', '.join(absent)} not here" if absent else None


@contextmanager
def vllm(name: str, log: Path, folder: Path | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A vLLM server for a folder, or for that of FOLDERS, served under a short name. Yields its base URL and its process, not yet ready."""
    port = free_port()
    command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder or FOLDERS[name])]
    command += ["--served-model-name", name, "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "2048", "--max-num-seqs", "8"]
    command += ["--enforce-eager", "--dtype", "float32"]
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    env |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    with process(command, log, env) as started:
        yield f"http://127.0.0.1:{port}/v1", started


def gateway_config(urls: dict[str, str]) -> str:
    """A configuration with a route `auto` over both: hard-looking questions to the large model, the rest to the cheap one."""
    prices = {"small": "{input: 0.02, output: 0.04}", "large": "{input: 0.05, output: 0.10}"}
    models = "".join(
        f"  - {{name: {name}, backends: ['{url}'], price: {prices[name]}, context_window: 2048, capabilities: [chat, completions]}}\n"
        for name, url in urls.items()
    )
    rules = "{type: rules, rules: [{when: {maths: true}, prefer: {large: 1.0}}, {when: {code: true}, prefer: {large: 1.0}}]}"
    return (
        f"models:\n{models}routes:\n  - name: auto\n    models: [{', '.join(urls)}]\n"
        f"    policy:\n      scorers:\n        - {rules}\n        - {{type: cost, weight: 0.4}}\n"
        "health: {interval_seconds: 1}\n"
    )
