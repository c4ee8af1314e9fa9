#!/bin/sh
# tuned 2.20.0 (Debian 12): profile cpu-partitioning turns KSM off at its first start only, and only if ksmtuned is installed.
#
# A good engineer would expect no merging while the profile, which is for isolated CPUs, is on. disable_ksm() stops
# the units ksm and ksmtuned and unmerges all pages, but first it makes a file that says that this was done. While the
# file exists it does nothing, at a restart as after a boot, whoever has started KSM since. If one of the two units does not
# exist, it makes the file and leaves KSM on, which oVirt, KubeVirt or a line of tmpfiles.d may have started.
# Profile realtime-virtual-host has 2 for the file run in its settings, and no such file.
#
# Seen: without the units: run 1 before, 1 after, also once the units exist; with them: 1 before, 2 after; again: 1 and 1
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download tuned=2.20.0-1
dpkg -x tuned_*.deb .
# What the profile does about KSM at each start.
grep -q '^ *disable_ksm$' usr/lib/tuned/cpu-partitioning/script.sh
mkdir ksm
cat >inside.sh <<'BASH'
# In a name space of its own, with files of KSM that do nothing, and a systemctl that only says whether the units exist.
mount --bind ksm /sys/kernel/mm/ksm
mount -t tmpfs none /var/lib
mkdir /var/lib/tuned
systemctl() { [ "$1" != cat ] || [ "$units" = yes ]; }
. usr/lib/tuned/functions
start() { # whether the units exist
  units=$1
  echo 1 >ksm/run
  disable_ksm || true
  echo "units $units: run $(cat ksm/run)"
}
start no
start yes
rm /var/lib/tuned/*
start yes
start yes
BASH
unshare --mount bash inside.sh | tee out
[ "$(tr '\n' ' ' <out)" = "units no: run 1 units yes: run 1 units yes: run 2 units yes: run 1 " ]
