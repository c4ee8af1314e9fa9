#!/bin/sh
# ksmtuned 4.20150326 (Debian 12): no guest that libvirt has started counts, so it stops KSM although memory is short.
#
# A good engineer would expect it to count the memory of every QEMU guest, as its comment says. It counts processes
# whose command line begins with "qemu-system" and contains "-enable-kvm". libvirt starts its emulator by an absolute
# path and with "-accel kvm". "committed" is then 0, and KSM is stopped each minute unless free memory is short.
#
# Seen: a process of 40 MB named as libvirt names it: committed 0; named as by hand, with -enable-kvm: committed > 40000
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download ksmtuned=4.20150326+b1
dpkg -x ksmtuned_*.deb .
mkdir ksm
cat >guest.py <<'PYTHON'
import time
memory = bytearray(b"x") * 40_000_000
time.sleep(60)
PYTHON
cat >inside.sh <<'SH'
# In name spaces of its own: no other process, and files of KSM that do nothing.
mount --bind ksm /sys/kernel/mm/ksm
"$@" &
sleep 3
export KSM_MONITOR_INTERVAL=1 DEBUG=1 PIDFILE=$PWD/pid
bash usr/sbin/ksmtuned >log &
sleep 4
sed -n 's/.*: committed \([0-9]*\) .*/\1/p' log | tail -1
SH
committed() { unshare --mount --pid --fork --mount-proc bash inside.sh bash -c "exec -a $1 /usr/bin/python3 guest.py $2"; }
by_libvirt=$(committed /usr/bin/qemu-system-x86_64 "-name guest=web,debug-threads=on -accel kvm -m size=2097152k")
by_hand=$(committed qemu-system-x86_64 "-name web -enable-kvm -m 2048")
echo "libvirt: $by_libvirt, by hand: $by_hand"
[ "$by_libvirt" = 0 ] && [ "$by_hand" -gt 40000 ]
