#!/bin/sh
# atop 2.8.1, munin 2.0.73 (plugin memory) and collectd 5.12.0 (exec-ksm.sh), Debian 12: with ksmd stopped, nothing is merged.
#
# A good engineer would expect what the three give otherwise, from pages_shared and pages_sharing. Writing 0 to
# /sys/kernel/mm/ksm/run stops ksmd and keeps all pages merged (Documentation/admin-guide/mm/ksm.rst); only 2 unmerges them.
# The three take 0 for "no KSM": atop writes 0 for both numbers, munin leaves the curve out, and the script ends with an
# error. The saving seems gone when somebody stops ksmd, although the memory that it would cost to lose it is still at stake.
#
# Seen, with 20480 in pages_sharing: run=1: atop 20480, munin 83886080, collectd 20480; run=0: atop 0, no others
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download atop=2.8.1-1+deb12u1 munin-plugins-core=2.0.73-1 munin-common=2.0.73-1 \
  collectd-core=5.12.0-14
for deb in *.deb; do dpkg -x "$deb" .; done
mkdir ksm
for file in pages_shared:10 pages_sharing:20480 pages_unshared:5 pages_volatile:0 full_scans:3; do
  echo "${file#*:}" >"ksm/${file%:*}"
done
cat >inside.sh <<'SH'
# In a name space of its own, with files of KSM that do nothing.
mount --bind ksm /sys/kernel/mm/ksm
echo "$1" >ksm/run
# The fields before it are in atop(1), below "PARSEABLE OUTPUT" and MEM.
atop=$(usr/bin/atop -P MEM 1 1 | awk '$1 == "MEM" {print $23}' | tail -1)
munin=$(MUNIN_LIBDIR=$PWD/usr/share/munin perl -I usr/share/perl5 usr/share/munin/plugins/memory |
  sed -n 's/^ksm_sharing.value //p')
collectd=$(COLLECTD_HOSTNAME=host COLLECTD_INTERVAL=1 timeout 3 bash usr/share/doc/collectd-core/examples/exec-ksm.sh 2>&1 |
  sed -n 's/.*-saved".* N://p; s/.*: //p' | head -1)
echo "atop $atop, munin ${munin:-nothing}, collectd $collectd"
SH
running=$(unshare --mount sh inside.sh 1)
stopped=$(unshare --mount sh inside.sh 0)
printf 'run=1: %s\nrun=0: %s\n' "$running" "$stopped"
[ "$running" = "atop 20480, munin 83886080, collectd 20480" ]
[ "$stopped" = "atop 0, munin nothing, collectd KSM not active." ]
