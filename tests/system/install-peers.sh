#!/bin/sh
# The peers that the system tests and the figures meet, from Debian's packages. Does nothing where they are there.
set -eu
missing=
for pair in sipp:sip-tester tshark:tshark baresip:baresip-core rtpengine:rtpengine-daemon glewlwyd:glewlwyd \
  rsyslogd:rsyslog rsyslogd:rsyslog-gnutls 7zz:7zip; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
# Not on the path: Debian keeps each version's programs apart.
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "make test-system installs$missing: run it as root" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
export RUNLEVEL=1 # no daemon of theirs is started
apt-get update -q
apt-get install -y -q --no-install-recommends $missing
