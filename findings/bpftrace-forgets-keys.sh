#!/bin/sh
# bpftrace 0.17.0 (Debian 12): a map keeps its first 4096 keys; what is counted for others is lost, without a word.
#
# A good engineer would expect a message and another exit status when a count is incomplete. A script that counts by process,
# address or page meets more keys than that within minutes on a busy host. The map is full then: its keys go on
# counting, a key that comes later is never there, and a process that starts later seems to do nothing. The limit
# is BPFTRACE_MAP_KEYS_MAX; only -k tells of such errors.
#
# Seen: 5000 keys counted once each: 4096 lines, exit status 0, nothing on standard error
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
# Its libraries (LLVM, libbpf) are those of the installed package bpftrace. Root is needed.
apt-get -qq -o APT::Sandbox::User=root download bpftrace=0.17.0-1
dpkg -x bpftrace_*.deb .
status=0
usr/bin/bpftrace -e 'BEGIN { $i = 0; while ($i < 5000) { @[$i] = count(); $i++ } exit(); }' >out 2>err || status=$?
# This one is about the limit of locked memory on some hosts, and comes before the script runs.
grep -v RLIMIT_MEMLOCK err >more || true
keys=$(grep -c '^@\[[0-9]*\]: 1$' out)
echo "keys $keys, status $status, errors $(wc -l <more)"
[ "$keys" = 4096 ] && [ "$status" = 0 ] && [ ! -s more ]
