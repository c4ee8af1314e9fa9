#!/bin/sh
# bpftool 7.1.0 (Debian 12): a key copied from `map dump` into `map lookup` or `map delete` names another key.
#
# A good engineer would expect the bytes to be read as they were printed. `map dump` and `map lookup` print hexadecimal bytes
# without "0x"; the same bytes in a command are decimal, or octal with a leading zero, unless the word "hex" stands before
# them. Key 16 is printed as "10 00 00 00", which is key 10 as an argument. If a byte has a letter there is an error;
# if not, the command works on another entry. bpftool-map(8) says how arguments are read, not that output is otherwise.
#
# Seen, in a map with the keys 16 and 10: dump has "10 00 00 00" for 16; delete key 10 00 00 00: status 0, and 16 is left
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
# Root is needed.
apt-get -qq -o APT::Sandbox::User=root download bpftool=7.1.0+6.1.192-3
dpkg -x bpftool_*.deb .
mkdir bpf
cat >inside.sh <<'SH'
# In a BPF file system of its own.
mount -t bpf none bpf
map() { command=$1; shift; usr/sbin/bpftool map "$command" pinned bpf/pages "$@"; }
usr/sbin/bpftool map create bpf/pages type hash key 4 value 4 entries 10 name pages
map update key 16 0 0 0 value 1 0 0 0
map update key 10 0 0 0 value 2 0 0 0
key=$(map dump | sed -n 's/^key: \(.*\)  value: 01 00 00 00$/\1/p')
echo "dump: $key; looked up: $(map lookup key $key)"
map delete key $key
map dump
SH
unshare --mount sh inside.sh >out
cat out
grep -q '^dump: 10 00 00 00; looked up: key: 0a 00 00 00  value: 02 00 00 00$' out
[ "$(grep '^key' out)" = "key: 10 00 00 00  value: 01 00 00 00" ]
