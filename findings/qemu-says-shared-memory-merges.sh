#!/bin/sh
# QEMU 7.2 (Debian 12) and Linux: "merge" of shared guest memory is true, madvise() succeeded, and KSM takes none of it.
#
# A good engineer would expect MADV_MERGEABLE to fail for memory that KSM ignores, or QEMU to tell. The kernel answers 0
# for a shared mapping and does nothing (mm/ksm.c), so QEMU's property stays true. Guests with virtiofs or another
# vhost-user device have such memory (share=on): nothing of them merges, and nothing says so but "mg" in smaps.
#
# Seen, qom-get merge and VmFlags of 96 MiB of guest memory: memory-backend-memfd,share=on: true, no mg
#                                                           memory-backend-memfd,share=off: true, mg
set -eu
dir=$(mktemp -d)
trap 'kill $pid 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
# Its libraries, firmware and keymaps are those of the installed packages of the same name and version.
apt-get -qq -o APT::Sandbox::User=root download qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3
dpkg -x qemu-system-x86_*.deb .
cat >merge.py <<'PYTHON'
import json, socket, sys, time

for _ in range(100):
    try:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect("qmp")
        break
    except OSError:
        time.sleep(0.1)
stream = connection.makefile("rw")


def ask(command, **arguments):
    stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    stream.flush()
    while "return" not in (answer := json.loads(stream.readline())):
        pass
    return answer["return"]


stream.readline()
ask("qmp_capabilities")
print(ask("qom-get", path="/objects/m", property="merge"))
PYTHON
export QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu
look() {
  usr/bin/qemu-system-x86_64 -S -nodefaults -display none -accel tcg -machine q35,memory-backend=m -m 96M \
    -L /usr/share/qemu -L /usr/share/seabios \
    -object "memory-backend-memfd,id=m,size=96M,share=$1" -qmp unix:qmp,server=on,wait=off 2>/dev/null &
  pid=$!
  merge=$(python3 merge.py)
  flags=$(awk '/^Size: +98304 kB/ {found = 1} /^VmFlags/ && found {print; exit}' /proc/$pid/smaps)
  kill $pid
  wait $pid || true
  rm -f qmp
  case "$flags" in *" mg"*) echo "$merge, mg" ;; VmFlags*) echo "$merge, no mg" ;; esac
}
look on >on
look off >off
echo "share=on: $(cat on); share=off: $(cat off)"
[ "$(cat on)" = "True, no mg" ] && [ "$(cat off)" = "True, mg" ]
