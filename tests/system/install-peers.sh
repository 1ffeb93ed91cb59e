#!/bin/sh
# The peers that the system tests meet, from Debian's packages. Does nothing where they are there.
set -eu
command -v sipp >/dev/null 2>&1 && command -v tshark >/dev/null 2>&1 && exit 0
[ "$(id -u)" = 0 ] || { echo "make test-system installs sipp and tshark: run it as root" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends sip-tester tshark
