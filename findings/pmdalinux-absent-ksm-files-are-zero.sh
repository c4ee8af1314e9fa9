#!/bin/sh
# pmdalinux of PCP 6.0.3 (Debian 12): mem.ksm.merge_across_nodes is 0, "off", on a kernel that has no such switch.
#
# A good engineer would expect no value for a file that is not there, as PCP has it for other metrics: 0 is a setting that
# changes what merges. A kernel without CONFIG_NUMA has the other files of /sys/kernel/mm/ksm, and merges everything.
# Also mem.ksm.full_scans, which only grows, is declared as instant, so tools show no rate of it.
#
# Seen, with the files of such a kernel: merge_across_nodes value 0, pages_sharing value 20; full_scans: instant
set -eu
dir=$(mktemp -d)
trap 'kill $pid 2>/dev/null; wait; rm -rf "$dir"' EXIT
cd "$dir"
v=6.0.3-1.1
apt-get -qq -o APT::Sandbox::User=root download pcp=$v pcp-conf=$v libpcp3=$v libpcp-pmda3=$v libpcp-web1=$v \
  libpcp-archive1=$v
for deb in *.deb; do dpkg -x "$deb" .; done
ksm=host/sys/kernel/mm/ksm
mkdir -p $ksm var/config/pmda var/pmns run log tmp
for file in full_scans:3 pages_shared:10 pages_sharing:20 pages_to_scan:100 pages_unshared:5 pages_volatile:0 run:1 \
  sleep_millisecs:20; do
  echo "${file#*:}" >"$ksm/${file%:*}"
done
cat >pcp.conf <<CONF
PCP_ETC_DIR=$dir/etc
PCP_SYSCONF_DIR=$dir/etc/pcp
PCP_BIN_DIR=$dir/usr/bin
PCP_BINADM_DIR=$dir/usr/lib/pcp/bin
PCP_SHARE_DIR=$dir/usr/share/pcp
PCP_VAR_DIR=$dir/var
PCP_RUN_DIR=$dir/run
PCP_LOG_DIR=$dir/log
PCP_TMP_DIR=$dir/tmp
PCP_TMPFILE_DIR=$dir/tmp
PCP_PLATFORM=linux
PCP_USER=root
PCP_GROUP=root
CONF
echo "linux 60 pipe binary $dir/usr/lib/pcp/pmdas/linux/pmdalinux -l $dir/log/linux.log" >pmcd.conf
{
  printf 'root { mem }\nmem { ksm }\n'
  sed -n '/^mem.ksm {/,/^}/p' usr/lib/pcp/pmns/root_linux
} >pmns
# LINUX_STATSPATH: where the agent looks for /proc and /sys.
export PCP_CONF="$dir/pcp.conf" LD_LIBRARY_PATH="$dir/usr/lib" LINUX_STATSPATH="$dir/host"
usr/lib/pcp/bin/pmcd -f -U root -p 19060 -s "$dir/run/socket" -c pmcd.conf -n pmns -l log/pmcd.log &
pid=$!
ask() { usr/bin/pminfo -h 127.0.0.1:19060 "$@" 2>&1; }
until ask -f mem.ksm | grep -q 'value 20'; do sleep 1; done
value() { ask -f "mem.ksm.$1" | sed -n 's/.*value //p'; }
found="$(value merge_across_nodes) $(value pages_sharing)"
semantics=$(ask -d mem.ksm.full_scans | sed -n 's/.*Semantics: \([a-z]*\).*/\1/p')
echo "merge_across_nodes, pages_sharing: $found; full_scans: $semantics"
[ "$found" = "0 20" ] && [ "$semantics" = instant ]
