#!/bin/sh
# QEMU 7.2 (Debian 12): the machine's mem-merge can be set while it runs; it is false then, and all memory is still offered.
#
# A good engineer would expect an error, or that KSM lets go of the guest's memory. QEMU reads mem-merge when it makes the
# memory; later qom-set answers without an error and qom-get gives the new value. The other way (off, later on) offers
# nothing. What works on a guest that runs is "merge" of each memory backend: madvise(MADV_UNMERGEABLE) follows at once.
#
# Seen, of 96 MiB of guest memory: started: mem-merge true, VmFlags mg; qom-set /machine mem-merge false: false, mg;
#       qom-set /objects/pc.ram merge false: false, no mg
set -eu
dir=$(mktemp -d)
trap 'kill $pid 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
# Its libraries, firmware and keymaps are those of the installed packages of the same name and version.
apt-get -qq -o APT::Sandbox::User=root download qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3
dpkg -x qemu-system-x86_*.deb .
cat >merge.py <<'PYTHON'
import json, re, socket, sys, time
from pathlib import Path

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


def look():
    """The machine's property, and whether the guest's memory is offered to KSM."""
    text = Path(f"/proc/{sys.argv[1]}/smaps").read_text()
    memory = re.search(r"^Size: +98304 kB$.*?^VmFlags:([^\n]*)", text, re.MULTILINE | re.DOTALL)
    return ask("qom-get", path="/machine", property="mem-merge"), "mg" in memory[1].split()


started = look()
ask("qom-set", path="/machine", property="mem-merge", value=False)
machine = look()
ask("qom-set", path="/objects/pc.ram", property="merge", value=False)
backend = look()
print(f"mem-merge and mg: started {started}, machine set {machine}, backend set {backend}")
sys.exit((started, machine, backend) != ((True, True), (False, True), (False, False)))
PYTHON
export QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu
usr/bin/qemu-system-x86_64 -S -nodefaults -display none -accel tcg -machine q35 -m 96M \
  -L /usr/share/qemu -L /usr/share/seabios -qmp unix:qmp,server=on,wait=off 2>/dev/null &
pid=$!
python3 merge.py $pid
