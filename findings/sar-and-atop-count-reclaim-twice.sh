#!/bin/sh
# sysstat 12.6.1 and atop 2.8.1 (Debian 12): sar says that 200 % of the scanned pages were reclaimed; atop doubles its scans.
#
# A good engineer would expect at most 100 % in %vmeff, "pgsteal / pgscan" in sar(1), and each page once. Linux 5.8 added
# pgscan_anon, pgscan_file, pgsteal_anon and pgsteal_file to /proc/vmstat: the same pages as in pgscan_kswapd,
# pgsteal_kswapd and so on, by kind and not by who reclaimed them. sar adds all that begins with pgsteal_ and atop all that
# begins with pgscan_. sar adds pgscan_kswapd and pgscan_direct only, so that its two halves do not fit together.
#
# Seen, while kswapd scans and reclaims 1000 file pages: sar -B: pgsteal/s is twice pgscank/s, %vmeff 200.00; atop: 2000
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download sysstat=12.6.1-1 atop=2.8.1-1+deb12u1
for deb in *.deb; do dpkg -x "$deb" .; done
cat >inside.sh <<'SH'
# In a name space of its own, with a /proc/vmstat of which only kswapd's work moves.
vmstat() { # pages that kswapd has scanned and reclaimed, all of files
  for name in nr_free_pages pgpgin pgpgout pswpin pswpout pgfree pgfault pgmajfault pgsteal_direct pgsteal_khugepaged \
    pgscan_direct pgscan_khugepaged pgscan_direct_throttle pgscan_anon pgsteal_anon allocstall_normal; do
    echo "$name 0"
  done
  for name in pgsteal_kswapd pgscan_kswapd pgscan_file pgsteal_file; do echo "$name $1"; done
}
vmstat 5000 >vmstat
mount --bind vmstat /proc/vmstat
usr/lib/sysstat/sadc 1 1 sa
usr/bin/atop -P PAG 3 2 >pag &
sleep 2
vmstat 6000 >vmstat
wait
usr/lib/sysstat/sadc 1 1 sa
SH
unshare --mount sh inside.sh
LC_ALL=C usr/bin/sar.sysstat -B -f sa >sar
grep -m 1 pgscank sar
grep Average sar
# The fields before it are in atop(1), below "PARSEABLE OUTPUT" and PAG.
scans=$(awk '$1 == "PAG" {print $8}' pag | tail -1)
echo "atop: $scans"
awk '$1 == "Average:" {exit !($7 > 0 && $9 / $7 > 1.99 && $9 / $7 < 2.01 && $10 == "200.00")}' sar
[ "$scans" = 2000 ]
