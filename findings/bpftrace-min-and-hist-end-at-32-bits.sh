#!/bin/sh
# bpftrace 0.17.0 (Debian 12): min() and hist() are wrong for numbers of 32 bits and more; max() keeps no negative number.
#
# A good engineer would expect the 64 bits that all numbers in bpftrace have, and that sum(), avg() and max() take. Bytes of
# memory and nanoseconds pass 4294967295 soon (4 GiB, 4.3 s). min() prints nothing for greater numbers and 0 for this one.
# hist() puts all from 2 GiB upwards into the bucket [2G, 4G). max() of negative numbers prints nothing. There is no warning.
#
# Seen: min(4294967294): 4294967294; min(4294967295): 0; min(5000000000): no line; max(-1): no line; max(5000000000):
#       5000000000; hist() of 3000000000, 5000000000 and 1099511627776: 3 in [2G, 4G)
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
# Its libraries (LLVM, libbpf) are those of the installed package bpftrace. Root is needed.
apt-get -qq -o APT::Sandbox::User=root download bpftrace=0.17.0-1
dpkg -x bpftrace_*.deb .
usr/bin/bpftrace -e 'BEGIN {
  @min_below = min(4294967294);
  @min_at = min(4294967295);
  @min_above = min(5000000000);
  @max_negative = max(-1);
  @max_above = max(5000000000);
  @hist = hist(3000000000); @hist = hist(5000000000); @hist = hist(1099511627776);
  exit();
}' >out
grep -v ' 0 |' out
is() { [ "$(sed -n "s/^@$1: //p" out)" = "$2" ]; }
is min_below 4294967294
is min_at 0
is max_above 5000000000
[ "$(grep -c 'min_above\|max_negative' out)" = 0 ]
[ "$(sed -n 's/^\[2G, 4G) *\([0-9]*\) |.*/\1/p' out)" = 3 ]
