#!/usr/bin/env bash
# Installs the programs that test suites and benchmarks use and that Debian has, where it may: as root, with apt.
# Elsewhere it says what is missing; the suites that need it then skip themselves and say so. Quick when all is there.
set -euo pipefail

# program:package
wanted=(nginx:nginx node:nodejs npm:npm redis-server:redis-server prometheus:prometheus)
if [ "${1:-}" = --deploy ]; then
    # For tests/deploy alone: building the image, the services of deploy/compose.yaml, the console in a browser.
    wanted+=(buildah:buildah mmdebstrap:mmdebstrap haproxy:haproxy chromium:chromium)
fi

missing=()
for pair in "${wanted[@]}"; do
    # Debian keeps servers in /usr/sbin, which is not on everyone's path.
    if ! PATH="$PATH:/usr/sbin" command -v "${pair%%:*}" >/dev/null; then
        missing+=("${pair##*:}")
    fi
done

if [ "${#missing[@]}" -eq 0 ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "system packages: no apt-get here, so not installed: ${missing[*]}; what needs them is skipped"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "system packages: not root, so not installed: ${missing[*]}; what needs them is skipped"
    echo "    sudo apt-get install --no-install-recommends ${missing[*]}"
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
echo "system packages: installing ${missing[*]}"
install=(apt-get install --yes --quiet --quiet --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}")
if ! "${install[@]}" >/dev/null 2>&1; then
    # The list of packages may be empty or old.
    if ! { apt-get update --quiet --quiet && "${install[@]}" >/dev/null; }; then
        echo "system packages: apt-get could not install ${missing[*]}; what needs them is skipped"
    fi
fi
