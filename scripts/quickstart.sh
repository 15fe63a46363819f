#!/usr/bin/env bash
# Set everything up and run the main job; results go to ./quickstart.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/environment.sh
exec .venv/bin/lrlo run examples/quickstart.yaml "$@"
