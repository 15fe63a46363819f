#!/usr/bin/env bash
# Put GPAW into .venv, with the Debian packages that its build needs where this may install them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/environment.sh

# The smallest thing that shows that the build works: it has libxc, and its datasets are there.
works() {
    .venv/bin/python -c 'import gpaw_data; from gpaw.xc import XC; XC("MGGA_X_R2SCAN+MGGA_C_R2SCAN")' \
        >/dev/null 2>&1
}
if works; then
    exit 0
fi

packages=(build-essential python3-dev libxc-dev libopenblas-dev libfftw3-dev libopenmpi-dev openmpi-bin)
missing=()
if command -v dpkg-query >/dev/null; then
    for package in "${packages[@]}"; do
        if ! dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
            missing+=("$package")
        fi
    done
fi
if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "GPAW needs these first: apt-get install ${missing[*]}" >&2
    fi
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt gpaw gpaw-data
if ! works; then
    echo "GPAW was installed but does not load: .venv/bin/python -c 'import gpaw' says why" >&2
    exit 1
fi
