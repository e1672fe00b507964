#!/usr/bin/env bash
# Makes .venv-profile with py-spy in it. Once: some seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=.venv-profile
if ! cmp --silent requirements/profile.txt "$folder/.installed"; then
    [ -x "$folder/bin/python" ] || .venv/bin/python -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r requirements/profile.txt
    cp requirements/profile.txt "$folder/.installed"
fi
