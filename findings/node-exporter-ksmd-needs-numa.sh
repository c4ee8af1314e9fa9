#!/bin/sh
# prometheus-node-exporter 1.5.0 (Debian 12): without merge_across_nodes, collector ksmd gives one number of nine.
#
# A good engineer would expect the other eight files of /sys/kernel/mm/ksm. merge_across_nodes exists only in kernels
# with CONFIG_NUMA, which most 32-bit and many small kernels lack. The collector gives up at the first file that is not
# there; in the order of the alphabet that is the second. node_ksmd_full_scans_total remains and looks as if it worked.
#
# Seen: all files of Linux 6.1 but merge_across_nodes:  node_ksmd_full_scans_total only, collector_success 0
#       with it:                                        nine metrics, collector_success 1
set -eu
dir=$(mktemp -d)
trap 'kill $pid 2>/dev/null; wait; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download prometheus-node-exporter=1.5.0-1+b6
dpkg -x prometheus-node-exporter_*.deb .
ksm=sys/kernel/mm/ksm
mkdir -p $ksm
for file in full_scans max_page_sharing pages_shared pages_sharing pages_to_scan pages_unshared pages_volatile run \
  sleep_millisecs stable_node_chains stable_node_chains_prune_millisecs stable_node_dups use_zero_pages; do
  echo 1 >$ksm/$file
done
usr/bin/prometheus-node-exporter --collector.disable-defaults --collector.ksmd --path.sysfs="$dir/sys" \
  --web.listen-address=127.0.0.1:19100 2>log &
pid=$!
metrics() {
  python3 - <<'PYTHON'
import sys, time, urllib.request
for _ in range(100):
    try:
        text = urllib.request.urlopen("http://127.0.0.1:19100/metrics").read().decode()
        break
    except OSError:
        time.sleep(0.1)
names = [line.split()[0] for line in text.splitlines() if line.startswith("node_ksmd_")]
success = [line.split()[1] for line in text.splitlines() if 'success{collector="ksmd"}' in line]
print(len(names), *success, *names[:1])
PYTHON
}
without=$(metrics)
echo 1 >$ksm/merge_across_nodes
with=$(metrics)
echo "without merge_across_nodes: $without; with it: $with"
[ "$without" = "1 0 node_ksmd_full_scans_total" ] && [ "$with" = "9 1 node_ksmd_full_scans_total" ]
