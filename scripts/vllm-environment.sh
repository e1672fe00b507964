#!/usr/bin/env bash
# Makes .venv-vllm (vLLM's CPU build) and .models (two small LLMs that vLLM can serve). Once: 3.5 GB and about five minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=.venv-vllm

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "vllm: the CPU build is for Linux on x86_64 only" >&2
    exit 3
fi
python=$(command -v python3.11 || true)
if [ -z "$python" ]; then
    echo "vllm: the CPU build needs python3.11" >&2
    exit 3
fi
if ! cmp --silent requirements/vllm.txt "$folder/.installed"; then
    echo "vllm: installing, 3.5 GB"
    "$python" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input torch==2.13.0
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r requirements/vllm.txt
    # Their wheels want CUDA, and transformers fails to start with them.
    "$folder/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec || true
    cp requirements/vllm.txt "$folder/.installed"
fi
"$folder/bin/python" scripts/vllm_models.py .models
