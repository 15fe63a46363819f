#!/usr/bin/env bash
# Make or update .venv with the versions that were tested (constraints.txt).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamp=.venv/installed
wanted=$(cat pyproject.toml constraints.txt | sha256sum)
if [ -x .venv/bin/lrlo ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "lrlo needs Python 3.11 or newer; set PYTHON to one" >&2
    exit 1
fi
if ! "$python" -m venv .venv; then
    # Debian's Python comes without venv.
    echo "installing python3-venv, which this Python lacks" >&2
    apt-get update -qq && apt-get install -y -qq python3-venv
    "$python" -m venv .venv
fi
# torch first and by its version: a range would bring the newest build with its GPU libraries.
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
echo "$wanted" > "$stamp"
