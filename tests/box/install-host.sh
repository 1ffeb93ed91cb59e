#!/bin/sh
# What builds and runs the test guest, from Debian's packages. Does nothing where it is there.
set -eu
missing=
for program in qemu-system-x86_64 qemu-img mmdebstrap mke2fs setpriv unshare git; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "make test-box installs$missing: run it as root" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends qemu-system-x86 qemu-utils mmdebstrap debian-archive-keyring \
    e2fsprogs util-linux git
