#!/usr/bin/env bash
# Set everything up and pass the tests; arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/environment.sh
exec .venv/bin/python -m pytest "$@"
