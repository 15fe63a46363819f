#!/usr/bin/env bash
# Set everything up and pass the tests, on two cores; arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/environment.sh
# One thread for each of the two processes: they would wait for one another's otherwise.
export OMP_NUM_THREADS=1
exec .venv/bin/python -m pytest --numprocesses 2 --dist loadfile "$@"
