#!/usr/bin/env bash
# Makes the root filesystem of Kadre's image: rootfs.sh FOLDER [WHEEL]
#
# Debian with Python 3.13, curl and a shell, and Kadre with its locked libraries; nothing that needs root to run.
# Needs root (debootstrap), uv, and a checkout of Kadre around this file. DEBIAN_MIRROR names another mirror.
set -euo pipefail
root="$1"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
uv="${UV:-$here/.uv/bin/uv}"
wheels="$(mktemp -d)"
trap 'rm -rf "$wheels"' EXIT

[ -d "$root/usr" ] || debootstrap --variant=minbase --include=python3-minimal,libpython3-stdlib,ca-certificates,curl \
    trixie "$root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$wheels/debootstrap.log" 2>&1 || { tail "$wheels/debootstrap.log" >&2; exit 1; }

wheel="${2:-}"
if [ -z "$wheel" ]; then
    "$uv" build --quiet --wheel --out-dir "$wheels" "$here"
    wheel="$(ls "$wheels"/kadre-*.whl)"
fi
"$uv" export --quiet --frozen --project "$here" --no-default-groups --no-emit-project --no-hashes \
    --extra bedrock --extra grpc --extra milvus --extra packages --extra pinecone --extra postgres --extra redis --extra webhook \
    --output-file "$wheels/requirements.txt" >/dev/null
"$uv" pip install --quiet --python-version 3.13 --python-platform "$(uname -m)-manylinux_2_36" --only-binary :all: \
    --compile-bytecode --target "$root/opt/kadre" --requirements "$wheels/requirements.txt" "$wheel"

# By the interpreter and not by a variable: what runs isolated (an author's functions) finds its libraries too.
install -d "$root/usr/local/lib/python3.13/dist-packages"
echo /opt/kadre >"$root/usr/local/lib/python3.13/dist-packages/kadre.pth"
install -m 0755 "$here/image/entrypoint.sh" "$root/usr/local/bin/kadre"
install -D -m 0755 "$here/image/check-usage.sh" "$root/scripts/check-usage.sh"
echo 'kadre:x:10001:10001:Kadre:/tmp:/usr/sbin/nologin' >>"$root/etc/passwd"
echo 'kadre:x:10001:' >>"$root/etc/group"
install -d -o 10001 -g 10001 "$root/var/lib/kadre"

# What a container never needs: package lists, manuals, other languages, the tools that install packages' sources.
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,info} "$root"/var/log/*
find "$root/opt/kadre/bin" -mindepth 1 ! -name uv -delete
