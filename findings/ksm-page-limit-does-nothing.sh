#!/bin/sh
# ksmtuned 4.20150326 (Debian 12): KSM_MAX_KERNEL_PAGES, the one setting of /etc/default/ksm, does nothing.
#
# A good engineer would expect a limit of the memory in KSM pages, or an error. The comment of the setting promises the limit,
# and half of the memory without it. ksm.service starts ksmctl, which writes the value to max_kernel_pages. Linux 2.6.33
# removed that file, because merged pages can be swapped out since then. ksmctl does not mention it, starts ksmd and ends with
# status 0, whatever the value is.
#
# Seen, with the files of Linux 6.12: value 1000: status 0, no output, run 1, and no file has 1000; value "none": the same
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download ksmtuned=4.20150326+b1
dpkg -x ksmtuned_*.deb .
grep -A3 'maximum number' etc/default/ksm
mkdir ksm
for file in advisor_max_cpu advisor_max_pages_to_scan advisor_min_pages_to_scan advisor_mode advisor_target_scan_time \
  full_scans general_profit ksm_zero_pages max_page_sharing merge_across_nodes pages_scanned pages_shared pages_sharing \
  pages_skipped pages_to_scan pages_unshared pages_volatile run sleep_millisecs smart_scan stable_node_chains \
  stable_node_chains_prune_millisecs stable_node_dups use_zero_pages; do
  echo 0 >ksm/$file
done
cat >inside.sh <<'SH'
# In a name space of its own, with files of KSM that do nothing.
mount --bind ksm /sys/kernel/mm/ksm
echo 0 >ksm/run
status=0
KSM_MAX_KERNEL_PAGES=$1 usr/sbin/ksmctl start >out 2>&1 || status=$?
echo "status $status, output $(wc -c <out), run $(cat ksm/run), files with it $(grep -lx -- "$1" ksm/* | wc -l)"
SH
number=$(unshare --mount sh inside.sh 1000)
word=$(unshare --mount sh inside.sh none)
printf '1000: %s\nnone: %s\n' "$number" "$word"
[ "$number" = "status 0, output 0, run 1, files with it 0" ] && [ "$word" = "$number" ]
