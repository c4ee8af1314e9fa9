#!/bin/sh
# Linux 6.18, Python 3.11 (Debian 12): the maximum RSS of a command (wait4, RUSAGE_CHILDREN) is at least that of who started it.
#
# A good engineer would expect the memory of the command, as "Maximum resident set size" of time(1) is read. The kernel keeps
# the maximum across an exec, so that what was there before it counts: the copy that fork made or, after vfork or posix_spawn,
# the parent itself. A harness of 200 MB so finds that each small tool needs 200 MB. VmHWM in /proc/PID/status begins
# anew with the exec, and time(1) is right, because it is small itself when it starts the command.
#
# Seen, cat started with subprocess by a Python with 200 MiB of data: VmHWM 1 MiB, ru_maxrss 210 MiB; without: 1 and 10 MiB
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/harness.py" <<'PYTHON'
import os, re, subprocess, sys
from pathlib import Path

memory = bytearray(b"x") * (int(sys.argv[1]) << 20)
command = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
command.stdin.write(b"x")
command.stdout.read(1)
status = Path(f"/proc/{command.pid}/status").read_text()
command.stdin.close()
usage = os.wait4(command.pid, 0)[2]
print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) >> 10, usage.ru_maxrss >> 10)
PYTHON
large=$(/usr/bin/python3 "$dir/harness.py" 200)
small=$(/usr/bin/python3 "$dir/harness.py" 0)
echo "VmHWM and ru_maxrss in MiB: started by a large process: $large, by a small one: $small"
set -- $large $small
[ "$1" -lt 5 ] && [ "$2" -ge 200 ] && [ "$3" -lt 5 ] && [ "$4" -lt 50 ]
