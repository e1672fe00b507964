"""The demo with two real LLMs on real vLLM servers, on the CPU: demo_vllm.py [--once]. scripts/vllm-environment.sh comes first."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gateway.demo import introduce, send_all  # noqa: E402
from tests.processes import free_port, wait_until_ready  # noqa: E402
from tests.vllm import servers  # noqa: E402

PROMPTS = (
    "Say hello to my colleague.",
    "What is 12 * 11?",
    "Name a colour of the rainbow.",
    "Write a python function that adds two numbers.",
)


def main() -> int:
    why = servers.missing()
    if why is not None:
        print(why, file=sys.stderr)
        return 1
    once = "--once" in sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="pointsman-demo-") as name, ExitStack() as stack:
        folder = Path(name)
        print("starting two vLLM servers on the CPU; the first time takes a minute or two", flush=True)
        started = {model: stack.enter_context(servers.vllm(model, folder / f"{model}.log")) for model in servers.FOLDERS}
        for model, (url, process) in started.items():
            wait_until_ready(f"{url.removesuffix('/v1')}/health", process, folder / f"{model}.log", servers.BOOT_SECONDS)
        config = folder / "gateway.yaml"
        config.write_text(servers.gateway_config({model: url for model, (url, _) in started.items()}), encoding="utf-8")
        port = free_port() if once else 8080
        command = [str(Path(sys.executable).parent / "pointsman"), "serve", "--config", str(config), "--port", str(port)]
        gateway = subprocess.Popen(command, stdout=subprocess.DEVNULL if once else None)
        base = f"http://127.0.0.1:{port}"
        try:
            wait_until_ready(f"{base}/readyz", gateway, folder / "small.log")
            if once:
                return asyncio.run(send_all(base, PROMPTS, "large"))
            introduce(base, "two real LLMs behind it: small (SmolLM2 135M), large (Gemma 3 270M)")
            return gateway.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            gateway.terminate()
            gateway.wait(10)


if __name__ == "__main__":
    sys.exit(main())
