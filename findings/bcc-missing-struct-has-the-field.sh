#!/bin/sh
# bcc 0.26.0 (Debian 12): `if BPF.kernel_struct_has_field(...)` is true for every field of a struct that does not exist.
#
# A good engineer would expect a method named "has" to be false if there is nothing that could have it, as it is for an
# unknown field. It returns 1, 0, or -1 for an error, and has no docstring that says so. The error is the usual case: kernels
# rename structs (stable_node became ksm_stable_node), and a kernel without BTF knows none. So a program that chooses
# its code by this test takes the branch for a field that is not there. Only "== 1" is a test.
#
# Seen, on Linux 6.18: mm_struct.pgd: 1, true; mm_struct.no_such_field: 0, false; no_such_struct.pgd: -1, true
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
# Their libraries (LLVM, libelf) are those of the installed package python3-bpfcc. A kernel with BTF is needed.
apt-get -qq -o APT::Sandbox::User=root download python3-bpfcc=0.26.0+ds-1 libbpfcc=0.26.0+ds-1
for deb in *.deb; do dpkg -x "$deb" .; done
export PYTHONPATH="$dir/usr/lib/python3/dist-packages" LD_LIBRARY_PATH="$dir/usr/lib/x86_64-linux-gnu"
/usr/bin/python3 - <<'PYTHON'
import sys

from bcc import BPF

has = BPF.kernel_struct_has_field
found = [has(b"mm_struct", b"pgd"), has(b"mm_struct", b"no_such_field"), has(b"no_such_struct", b"pgd")]
print(*((each, bool(each)) for each in found), has.__doc__)
sys.exit(found != [1, 0, -1] or has.__doc__ is not None)
PYTHON
