#!/usr/bin/env bash
# Installs what the gates of .ci/run need of a Debian machine, where it is missing: a container runtime and network
# tools for the test cluster, PostgreSQL and Redis for the stores, bubblewrap for code that models write. Needs root only
# where something is missing. Go and kubectl are looked for and not installed: Debian's are too old.
set -euo pipefail

packages=(
    ca-certificates containerd runc containernetworking-plugins iptables iproute2 conntrack socat debootstrap postgresql
    redis-server bubblewrap
)

missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done

if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "This is no Debian: install by hand what provides ${missing[*]}." >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "Missing: ${missing[*]}. Run as root: apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # No server is wanted, only its programs: the tests start their own.
    export RUNLEVEL=1
    log="$(mktemp)"
    quietly() { "$@" >"$log" 2>&1 || { cat "$log" >&2; return 1; }; }
    apt=(apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120)
    # A machine's package lists may be older than what the mirror still has.
    quietly "${apt[@]}" update || quietly "${apt[@]}" update
    quietly "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
    rm -f "$log"
fi

if ! command -v go >/dev/null; then
    echo "Go is missing: install Go 1.21 or newer (it fetches the version it needs) and put it on PATH." >&2
    exit 1
fi
if ! command -v kubectl >/dev/null; then
    echo "kubectl is missing: install 1.30 or newer and put it on PATH." >&2
    exit 1
fi
